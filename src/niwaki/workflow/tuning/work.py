"""Trial after trial, as long as there are some left and there is time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from typing import Any

from niwaki.core.contract import NiwakiError
from niwaki.training import Interrupted
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.lock import waiting_lock
from niwaki.workflow.progress import figures
from niwaki.workflow.reasons import is_disk_full, reason
from niwaki.workflow.tuning.results import best_numbers
from niwaki.workflow.tuning.storage import need_optuna
from niwaki.workflow.tuning.study import Study
from niwaki.workflow.tuning.taking import Taken, states, take
from niwaki.workflow.tuning.trial import Outcome, Pruned, carry_out

__all__ = ["SECONDS", "WHY", "work"]

SECONDS, WHY, REPEATS, VALUES = "seconds", "why", "repeats", "values"
"""Attributes of a trial in the storage."""
_ALIKE = 3
"""Trials that fail at the beginning of a study, none having succeeded, before it is given up."""


def work(
    study: Study, context: EvaluationContext, *, until: float | None = None,
    goes_on: Callable[[], bool] = lambda: True,
) -> int:  # fmt: skip
    """Carry out trials until the study has as many as it should; how many of them were this call's.

    until:   of `time.monotonic()`, which all processes of a machine share and nobody sets: no trial begins
             that would, as those before it, end later
    goes_on: asked before each trial

    A trial that fails is recorded. Raises NiwakiError where the first ones all fail, Interrupted after
    Ctrl-C: the trial that was under way goes on in the next call.
    """
    done = 0
    known = {trial.number for trial in _ended(study)}
    _clear(study)  # a killed process may have left what its last trial made superfluous
    while goes_on() and _time_left(study, until):
        with take(study) as taken:
            if taken is None:
                break
            _tell_begin(study, taken, context)
            _finish(study, taken, context)
            known.add(taken.number)
        done += 1
        known |= _tell_others(study, known, context)
        _clear(study)
        _give_up_where_all_fail(study)
    return done


def _time_left(study: Study, until: float | None) -> bool:
    if until is None:
        return True
    took = [t.user_attrs[SECONDS] for t in study.optuna.get_trials(deepcopy=False) if SECONDS in t.user_attrs]
    return time.monotonic() + (median(took) if took else 0.0) < until


def _tell_begin(study: Study, taken: Taken, context: EvaluationContext) -> None:
    words = ", ".join(f"{key} {_short(value)}" for key, value in taken.settings.items())
    again = " (goes on)" if taken.again else ""
    context.reporter.note(
        f"trial {taken.number} ({taken.number + 1} of {study.config.trials}){again}: {words}"
    )


def _ended(study: Study) -> list[Any]:
    return [trial for trial in study.optuna.get_trials(deepcopy=False) if trial.state.is_finished()]


def _tell_others(study: Study, known: set[int], context: EvaluationContext) -> set[int]:
    """What other processes have finished meanwhile."""
    new = [trial for trial in _ended(study) if trial.number not in known]
    for trial in new:
        attributes = trial.user_attrs
        found = figures(attributes.get(VALUES, {}), most=4) or attributes.get(WHY, "")
        context.reporter.note(f"trial {trial.number}, of another process: {found}")
    return {trial.number for trial in new}


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _finish(study: Study, taken: Taken, context: EvaluationContext) -> None:
    """Carry it out and say to the storage how it went."""
    trial, State = taken.trial, need_optuna().trial.TrialState
    sign = -1.0 if study.objectives[0].better == "higher" else 1.0
    prunes = study.prunes_by != "none"
    began = time.monotonic()

    def on_loss(step: int, loss: float) -> None:
        if prunes:
            trial.report(sign * loss, step)  # Optuna compares it in the direction of the objective
            if trial.should_prune():
                raise Pruned(f"ended at step {step:,}: its held-out loss {loss:.4g} falls behind the others'")

    try:
        outcome = carry_out(study, taken.number, taken.settings, context, on_loss)
    except Interrupted:
        raise
    except Pruned as pruned:
        state, why = State.PRUNED, " ".join(str(pruned).split())
    except Exception as error:
        if is_disk_full(error):
            raise
        state, why = State.FAIL, reason(error)
    else:
        _complete(study, taken, outcome)
        context.reporter.note(f"trial {taken.number}: {figures(outcome.values, most=4)}")
        return
    trial.set_user_attr(WHY, why)
    trial.set_user_attr(SECONDS, round(time.monotonic() - began, 3))
    study.optuna.tell(taken.number, state=state)
    context.reporter.note(f"trial {taken.number} {'failed' if state == State.FAIL else 'pruned'}: {why}")


def _complete(study: Study, taken: Taken, outcome: Outcome) -> None:
    trial = taken.trial
    trial.set_user_attr(VALUES, outcome.values)
    trial.set_user_attr(REPEATS, outcome.repeats)
    trial.set_user_attr(SECONDS, outcome.seconds)
    for constraint in study.constraints:
        trial.set_constraint(str(constraint), constraint.excess(outcome.values[constraint.target]))
    study.optuna.tell(taken.number, [outcome.values[target.name] for target in study.objectives])


def _clear(study: Study) -> None:
    """Weights are kept of the best trials alone."""
    with waiting_lock(study.path / "asking"):
        kept = set(best_numbers(study))
        for trial in study.optuna.get_trials(deepcopy=False):
            if trial.state.is_finished() and trial.number not in kept:
                for part in ("model", "checkpoints", "cache"):
                    for place in study.trial(trial.number).glob(f"seed-*/{part}"):
                        with suppress(OSError):
                            shutil.rmtree(place)


def _give_up_where_all_fail(study: Study) -> None:
    """Raises NiwakiError."""
    found = states(study)
    if found["fail"] >= _ALIKE and not found["complete"] and not found["pruned"]:
        whys = [t.user_attrs.get(WHY, "") for t in study.optuna.get_trials(deepcopy=False)]
        last = next((why for why in reversed(whys) if why), "")
        raise NiwakiError(f"the first {found['fail']} trials all failed, the last one because: {last}")
