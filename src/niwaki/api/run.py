"""Run: the whole way, stage after stage; what still holds is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niwaki.api.progress import with_progress
from niwaki.recipe import Overrides, Recipe
from niwaki.workflow.estimates.span import seconds_in
from niwaki.workflow.launched import join_where_not_first
from niwaki.workflow.outlook import fit_into
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.run_context import open_run
from niwaki.workflow.run_directory import RunDirectory
from niwaki.workflow.stages.compress import CompressStage
from niwaki.workflow.stages.evaluate import EvaluateStage
from niwaki.workflow.stages.export import ExportStage
from niwaki.workflow.stages.report import ReportStage
from niwaki.workflow.stages.sources import train_sources
from niwaki.workflow.stages.stage import Stage
from niwaki.workflow.stages.train import TrainStage, code_of
from niwaki.workflow.stages.verdict import VerdictStage
from niwaki.workflow.stages.way import carry_out
from niwaki.workflow.sufficiency import tell_lacking

__all__ = ["run", "whole_way"]


def whole_way(train: TrainStage | None = None) -> tuple[Stage, ...]:
    """All stages, in order."""
    judged: tuple[Stage, ...] = (CompressStage(), ExportStage(), VerdictStage(), ReportStage())
    return (train or TrainStage(), EvaluateStage(), *judged)


@with_progress
def run(
    what: str | Path | Recipe | Mapping[str, Any],
    overrides: Overrides = (),
    *,
    out: str | Path | None = None,
    resume: bool = False,
    fresh: bool = False,
    time: str | float | None = None,
    reporter: Reporter | None = None,
) -> RunDirectory:
    """Train → evaluate → compress → export → judge the bundle on its engine → report.

    A stage works again only where something that it was made from has changed; a training that was stopped
    goes on from its last checkpoint. A training is not written over: where what it was made from has changed,
    that is refused by name.

    resume: train on where there are more steps now than were trained, then judge anew
    fresh:  train again, whatever is there
    time:   that all of it may take (`20m`, `1h30m`, seconds): the training gets as many steps as fit; of a
            run whose training has begun they stay
    Raises what the stages raise; what was finished before stays.
    """
    if time is not None:
        what, overrides = fit_into(
            seconds_in(time), what, overrides, stages=whole_way, out=out, reporter=reporter
        )
    join_where_not_first(what, overrides, out, fresh=fresh)
    context = open_run(what, overrides, out, reporter)
    directory = context.run
    with directory.hold():
        train_sources(context)
        train = TrainStage(resume=resume or None, fresh=fresh)
        state = directory.stage("train")
        if (
            not fresh
            and state["status"] == "done"
            and state.get("code") not in (None, "", code_of(context.recipe))
        ):
            context.reporter.note(
                f"the code of the model '{context.recipe.model['name']}' is not what it was trained with; "
                "--fresh, or another --out, trains it as it is now"
            )
        stages = whole_way(train)
        if not all(stage.holds(context) for stage in stages[:2]):
            tell_lacking(context)
        if not carry_out(context, stages):
            context.reporter.note(f"everything in {directory.path} is done and up to date")
    return directory
