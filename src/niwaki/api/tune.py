"""Tune: search for the settings of a recipe."""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from niwaki.api.progress import with_progress
from niwaki.core.contract import CallError
from niwaki.recipe import Overrides, Recipe, TuneConfig, load_recipe
from niwaki.recipe.plain import plain
from niwaki.training import Interrupted
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.estimates.span import seconds_in
from niwaki.workflow.pace import about_text
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.tuning.begin import begin, seconds_of_trial, told_time
from niwaki.workflow.tuning.further import further_workers
from niwaki.workflow.tuning.pictures import draw_pictures
from niwaki.workflow.tuning.results import TuningRecord, collect
from niwaki.workflow.tuning.study import Study, is_study
from niwaki.workflow.tuning.taking import states
from niwaki.workflow.tuning.trial import judging_context
from niwaki.workflow.tuning.work import work

__all__ = ["tune"]


@with_progress
def tune(
    what: str | Path | Recipe | Mapping[str, Any],
    overrides: Overrides = (),
    *,
    ranges: Mapping[str, Any] | None = None,
    objectives: Sequence[str] | None = None,
    constraints: Sequence[str] | None = None,
    trials: int | None = None,
    repeats: int | None = None,
    prune: str | None = None,
    workers: int = 1,
    time: str | float | None = None,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> TuningRecord:
    """Search for the settings of a recipe that are best on the validation split; a study goes on.

    what:        a recipe, or the directory of a study
    ranges:      by dotted key: `{"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}}`, `{"model.width":
                 [32, 64]}`; beside those of the recipe's section `tune`, as are the others (`TuneConfig`)
    trials:      of the whole study, those of earlier calls included
    workers:     processes; more may be started by hand, on any machine that shares `out`
    time:        that it may take (`20m`, seconds): no trial begins that would end later
    out:         the study's directory; default: `runs/<name>-tune`
    The record is kept in `tuning.json`, the best recipe in `best.yaml`, pictures beside them.
    Raises CallError for wrong settings before anything is trained, NiwakiError where all trials fail,
    Interrupted after Ctrl-C.
    """
    reporter = reporter or Quiet()
    if workers < 1:
        raise CallError("workers: at least one process has to work")
    until = None if time is None else clock.monotonic() + seconds_in(time)
    given = {"ranges": ranges, "objectives": objectives, "constraints": constraints, "trials": trials,
             "repeats": repeats, "prune": prune}  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    study, context = _study(what, overrides, given, out, reporter)
    _tell(study, context, workers, time, reporter)
    if any(target.figure for target in study.targets) and _due(study):
        _ = context.extractors  # before other processes would make them as well
    further = min(workers - 1, max(_due(study) - 1, 0))
    try:
        with further_workers(study.path, further, study.config.trials, until, reporter):
            work(study, context, until=until)
    except (Interrupted, KeyboardInterrupt):
        collect(study)
        reporter.note(f"the study goes on where it stopped: niwaki tune {study.path}")
        raise
    record = collect(study)
    draw_pictures(study, record)
    return record


def _study(
    what: Any, overrides: Overrides, given: Mapping[str, Any], out: str | Path | None, reporter: Reporter
) -> tuple[Study, EvaluationContext]:
    if isinstance(what, str | Path) and is_study(what):
        if list(overrides) or set(given) - {"trials"} or out is not None:
            raise CallError(f"{what} is a study, which goes on as it began; only the trials can be changed")
        study = Study.open(what, given.get("trials"))
        return study, judging_context(study, reporter)
    recipe = load_recipe(what, overrides)
    config = plain(recipe.tune or TuneConfig())
    ranges = {**config.pop("ranges", {}), **plain(given.get("ranges", {}))}
    config = TuneConfig(
        **{**config, **plain({k: v for k, v in given.items() if k != "ranges"}), "ranges": ranges}
    )
    path = Path(out) if out is not None else Path("runs") / f"{recipe.name}-tune"
    return begin(path, recipe.model_copy(update={"tune": None}), config, reporter)


def _due(study: Study) -> int:
    found = states(study)
    return study.config.trials - sum(found.values()) + found["running"]


def _tell(
    study: Study, context: EvaluationContext, workers: int, time: str | float | None, reporter: Reporter
) -> None:
    """What lies ahead."""
    found, due = states(study), _due(study)
    there = sum(found.values()) - found["running"]
    if there:
        reporter.note(f"{study.path} has {there} trials; {due} more are to come")
    elif study.space.default() is None:
        reporter.note("the recipe's own settings lie outside these ranges, so no trial has them")
    if due:
        budget = "" if time is None else f", at most {about_text(seconds_in(time))} in all"

        def sentence() -> str:
            seconds = seconds_of_trial(study, context)
            return "" if seconds is None else told_time(seconds, due, workers) + budget

        reporter.ahead(sentence)
