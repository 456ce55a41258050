"""Train: the first stage alone."""

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
from niwaki.workflow.stages.sources import train_sources
from niwaki.workflow.stages.train import TrainStage

__all__ = ["train"]


@with_progress
def train(
    what: str | Path | Recipe | Mapping[str, Any],
    overrides: Overrides = (),
    *,
    out: str | Path | None = None,
    resume: bool = False,
    fresh: bool = False,
    time: str | float | None = None,
    reporter: Reporter | None = None,
) -> RunDirectory:
    """Train the model (or the encoder) of a recipe or of a run and save it into the run directory.

    resume: go on from the last checkpoint: of a training that was stopped, or of a finished one that is to
            have more steps (`train.steps=700` after 600; the schedule is stretched over all of them)
    fresh:  begin again, whatever is there
    time:   that the training may take (`20m`, `1h30m`, seconds): it gets as many steps as fit; of a training
            that has begun they stay
    A finished training of this recipe is left as it is.
    Raises CallError where a training of other settings, a shorter or a stopped one is in the way, saying what
    changed; Interrupted on Ctrl-C.
    """
    if time is not None:
        what, overrides = fit_into(
            seconds_in(time), what, overrides, stages=lambda: (TrainStage(),), out=out, reporter=reporter
        )
    join_where_not_first(what, overrides, out, fresh=fresh)
    context = open_run(what, overrides, out, reporter, encoders=True)
    run = context.run
    with run.hold():
        train_sources(context)
        worked = TrainStage(resume=resume, fresh=fresh).run(context)
        if not worked:
            context.reporter.note(f"the training in {run.path} is finished: nothing was left to do")
    return run
