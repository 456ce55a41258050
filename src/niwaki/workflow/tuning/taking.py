"""Which trial a process works at: one that a killed process has left, else a new one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from niwaki.workflow.lock import InUse, locked, waiting_lock
from niwaki.workflow.tuning.storage import fixed, need_optuna, sampler
from niwaki.workflow.tuning.study import Study

__all__ = ["Taken", "states", "take"]

DEFAULT = "default"
"""Attribute of the trial that has the recipe's own settings."""
_FIXED = "fixed_params"
"""Attribute under which Optuna keeps the settings of a trial that are chosen before it begins."""


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
        if frozen.params.keys() != study.config.ranges.keys() and _FIXED not in frozen.system_attrs:
            # Killed while an older version asked for its settings: they are nowhere.
            study.optuna.tell(frozen.number, state=optuna.trial.TrialState.FAIL)
            continue
        study.optuna.sampler = fixed()  # its settings are chosen
        trial = optuna.Trial(study.optuna, frozen._trial_id)
        _settle(trial, study)
        return Taken(trial, study.space.settings(trial.params), again=True)
    return None


def _settle(trial: Any, study: Study) -> None:
    """Give it those of its settings that a killed process had not yet written down."""
    for name, distribution in study.space.distributions().items():
        trial._suggest(name, distribution)


def _asked(study: Study, held: ExitStack) -> Taken | None:
    optuna = need_optuna()
    known = study.optuna.get_trials(deepcopy=False)
    waiting = [t for t in known if t.state == optuna.trial.TrialState.WAITING]
    if len(known) - len(waiting) >= study.config.trials:
        return None
    if not waiting:
        # All settings are written down in one line, so that a kill leaves a whole trial or none.
        mine = study.space.default() if not known else None
        chosen = _chosen(study, known) if mine is None else mine
        study.optuna.enqueue_trial(chosen, user_attrs={} if mine is None else {DEFAULT: True})
    study.optuna.sampler = fixed()
    trial = study.optuna.ask(study.space.distributions())
    place = study.trial(trial.number)
    place.mkdir(parents=True, exist_ok=True)
    held.enter_context(locked(place))
    return Taken(trial, study.space.settings(trial.params), again=False)


def _chosen(study: Study, known: Sequence[Any]) -> dict[str, Any]:
    """What the sampler suggests after the trials that are known, asked of a copy of the study."""
    optuna = need_optuna()
    running = any(t.state.name == "RUNNING" for t in known)
    mine = sampler(study.config.seed, len(known), study.config.startup, running)
    copy = optuna.create_study(directions=study.optuna.directions, sampler=mine)
    copy.add_trials(known)
    return dict(copy.ask(study.space.distributions()).params)
