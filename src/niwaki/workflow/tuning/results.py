"""What a study has found: a record, the best recipe, the front of two objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from niwaki.core.store import jsonable, write_text
from niwaki.recipe import dump_recipe
from niwaki.report.records import Record
from niwaki.workflow.tuning.importance import importances
from niwaki.workflow.tuning.study import Study
from niwaki.workflow.tuning.taking import DEFAULT
from niwaki.workflow.tuning.trial import recipe_of

__all__ = ["TuningRecord", "best_numbers", "collect", "compromise"]


@dataclass(frozen=True)
class TuningRecord(Record):
    """A study as it stands.

    path:       of the study
    objectives: name and direction of each; constraints: their texts
    trials:     number, state, settings, values, repeats, seconds, whether it keeps the constraints, why it
                ended
    best:       number of the trial that `best.yaml` is of; None where none is whole and keeps the constraints
    front:      numbers of all trials that no other one beats in both objectives (of one objective: the best)
    default:    number of the trial with the recipe's own settings; None where they are outside the ranges
    importance: by objective, by setting: shares of what decides whether a trial is among the better ones; a
                sentence where that cannot be told
    """

    file: ClassVar[str] = "tuning.json"
    version: ClassVar[int] = 1
    recipe: str = ""
    path: str = ""
    objectives: list[dict[str, str]] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    sampler: str = "tpe"
    seed: int = 0
    n: int = 0
    repeats: int = 1
    split: str = "validation"
    trials: list[dict[str, Any]] = field(default_factory=list)
    best: int | None = None
    front: list[int] = field(default_factory=list)
    default: int | None = None
    importance: dict[str, Any] = field(default_factory=dict)


def collect(study: Study) -> TuningRecord:
    """Read the storage; write `tuning.json`, `best.yaml` and, of two objectives, `front/trial-0007.yaml`."""
    trials = [t for t in study.optuna.get_trials(deepcopy=False) if t.state.name != "WAITING"]
    front = best_numbers(study)
    best = compromise(study, front)
    record = TuningRecord(
        recipe=study.recipe.name,
        path=str(study.path),
        objectives=[{"name": t.name, "figure": t.figure or "held-out loss", "better": t.better}
                    for t in study.objectives],
        constraints=list(map(str, study.constraints)),
        seed=study.config.seed,
        n=study.config.n,
        repeats=study.config.repeats,
        trials=[_row(study, trial) for trial in trials],
        best=best,
        front=front,
        default=next((t.number for t in trials if t.user_attrs.get(DEFAULT)), None),
        importance=importances(study),
    )  # fmt: skip
    _write_recipes(study, record)
    record.write(study.path)
    return record


def _row(study: Study, trial: Any) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "settings": study.space.settings(trial.params),
        "values": trial.user_attrs.get("values", {}),
        "repeats": trial.user_attrs.get("repeats", []),
        "seconds": trial.user_attrs.get("seconds"),
        "keeps": all(excess <= 0 for excess in trial.constraints.values()),
        "why": trial.user_attrs.get("why", ""),
    }


def best_numbers(study: Study) -> list[int]:
    """The trials that no other one beats in all objectives, among those that keep the constraints."""
    whole = [t for t in study.optuna.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    whole = [t for t in whole if all(excess <= 0 for excess in t.constraints.values())]
    losses = _losses(study, [t.values for t in whole])
    beaten = [
        any(np.all(other <= mine) and np.any(other < mine) for other in losses) for mine in losses
    ]  # fmt: skip
    return [t.number for t, worse in zip(whole, beaten, strict=True) if not worse]


def _losses(study: Study, values: Sequence[Sequence[float]]) -> np.ndarray:
    """Objectives, lower being better, `(trials, objectives)`."""
    signs = [-1.0 if target.better == "higher" else 1.0 for target in study.objectives]
    return np.asarray(values, np.float64).reshape(-1, len(signs)) * signs


def compromise(study: Study, front: Sequence[int]) -> int | None:
    """Of a front the trial that is nearest to the best of both: least largest distance, each objective scaled
    to 0 … 1 over the front (Chebyshev). Ends of the front are as far as can be, so a third point wins over
    them."""
    if not front:
        return None
    trials = study.optuna.get_trials(deepcopy=False)
    losses = _losses(study, [trials[number].values for number in front])
    span = np.ptp(losses, axis=0)
    scaled = (losses - losses.min(axis=0)) / np.where(span > 0, span, 1.0)
    far = np.stack([scaled.max(axis=1), scaled.sum(axis=1)], axis=1)
    return front[min(range(len(front)), key=lambda k: (*far[k], front[k]))]


def _write_recipes(study: Study, record: TuningRecord) -> None:
    settings = {row["number"]: row["settings"] for row in record.trials}
    if record.best is not None:
        write_text(study.best, _recipe(study, record.best, settings[record.best]))
    else:
        study.best.unlink(missing_ok=True)
    if len(record.objectives) > 1:
        kept = {f"trial-{number:04d}.yaml": number for number in record.front}
        for old in (study.path / "front").glob("trial-*.yaml"):
            if old.name not in kept:
                old.unlink(missing_ok=True)
        for name, number in kept.items():
            write_text(study.path / "front" / name, _recipe(study, number, settings[number]))


def _recipe(study: Study, number: int, settings: dict[str, Any]) -> str:
    recipe = recipe_of(study, settings)
    recipe = recipe.model_copy(update={"name": f"{recipe.name}-tuned"[:80]})
    told = ", ".join(f"{key} {jsonable(value)}" for key, value in settings.items())
    return f"# Trial {number} of a study of {study.recipe.name}: {told}\n{dump_recipe(recipe)}"
