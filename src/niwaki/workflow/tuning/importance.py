"""Which settings decide: PED-ANOVA (Watanabe, Bansal, Hutter 2023), as Optuna computes it."""

from __future__ import annotations

from typing import Any

from niwaki.workflow.tuning.storage import need_optuna
from niwaki.workflow.tuning.study import Study

__all__ = ["importances"]

LEAST = 6
"""Whole trials below which nothing is said."""


def importances(study: Study) -> dict[str, Any]:
    """By objective, by setting: its share; a sentence under `left_out` where that cannot be told."""
    optuna = need_optuna()
    whole = [t for t in study.optuna.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    if len(whole) < LEAST:
        return {"left_out": f"{len(whole)} whole trials are too few to tell which settings decide"}
    out: dict[str, Any] = {}
    for at, target in enumerate(study.objectives):
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        sign = -1.0 if target.better == "higher" else 1.0
        try:
            found = optuna.importance.get_param_importances(
                study.optuna, evaluator=evaluator, target=_reader(at, sign)
            )
        except (ValueError, RuntimeError) as error:
            return {"left_out": f"it cannot be told which settings decide: {error}"}
        out[target.name] = {key: float(value) for key, value in found.items()}
    return out


def _reader(at: int, sign: float) -> Any:
    """PED-ANOVA takes lower values of a given target for the better ones."""
    return lambda trial: sign * trial.values[at]
