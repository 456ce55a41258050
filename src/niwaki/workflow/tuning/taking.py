"""Which trial a process works at: one that a killed process has left, else a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from niwaki.workflow.lock import InUse, locked
from niwaki.workflow.tuning.storage import fixed, need_optuna, sampler, waiting_lock
from niwaki.workflow.tuning.study import Study

__all__ = ["Taken", "states", "take"]

DEFAULT = "default"
"""Attribute of the trial that has the recipe's own settings."""


@dataclass(frozen=True)
class Taken:
    """A trial under way.

    trial:    Optuna's
    settings: what it sets in the recipe
    again:    whether a process that has ended had begun it
    """

    trial: Any
    settings: dict[str, Any]
    again: bool

    @property
    def number(self) -> int:
        return int(self.trial.number)


def states(study: Study) -> dict[str, int]:
    """How many trials there are, by `complete`, `pruned`, `fail`, `running`."""
    out = dict.fromkeys(("complete", "pruned", "fail", "running"), 0)
    for trial in study.optuna.get_trials(deepcopy=False):
        name = trial.state.name.lower()
        if name in out:
            out[name] += 1
    return out


@contextmanager
def take(study: Study) -> Iterator[Taken | None]:
    """The next trial, whose directory this process holds within the block; None where none is left.

    A trial that is marked as running and whose directory nobody holds was left by a process that has ended.
    The directory `asking` is held meanwhile, so that no two processes take the same.
    """
    with ExitStack() as held:
        with waiting_lock(study.path / "asking"):
            taken = _left_behind(study, held) or _asked(study, held)
        yield taken


def _left_behind(study: Study, held: ExitStack) -> Taken | None:
    optuna = need_optuna()
    running = (optuna.trial.TrialState.RUNNING,)
    for frozen in study.optuna.get_trials(deepcopy=False, states=running):
        place = study.trial(frozen.number)
        place.mkdir(parents=True, exist_ok=True)
        try:
            held.enter_context(locked(place))
        except InUse:
            continue
        if frozen.params.keys() != study.config.ranges.keys():  # killed while it was asked for
            study.optuna.tell(frozen.number, state=optuna.trial.TrialState.FAIL)
            continue
        study.optuna.sampler = fixed()  # its settings are chosen
        return Taken(
            optuna.Trial(study.optuna, frozen._trial_id), study.space.settings(frozen.params), again=True
        )
    return None


def _asked(study: Study, held: ExitStack) -> Taken | None:
    known = study.optuna.get_trials(deepcopy=False)
    if not known and (mine := study.space.default()) is not None:
        study.optuna.enqueue_trial(mine, user_attrs={DEFAULT: True})
    if sum(t.state.name != "WAITING" for t in known) >= study.config.trials:
        return None
    number = len(known)  # of the one that waits everything is fixed
    running = any(t.state.name == "RUNNING" for t in known)
    study.optuna.sampler = sampler(study.config.seed, number, study.config.startup, running)
    trial = study.optuna.ask(study.space.distributions())
    place = study.trial(trial.number)
    place.mkdir(parents=True, exist_ok=True)
    held.enter_context(locked(place))
    return Taken(trial, study.space.settings(trial.params), again=False)
