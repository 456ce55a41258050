"""Train: the first stage alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from niwaki.api.progress import with_progress
from niwaki.core.errors import CallError
from niwaki.recipe import Recipe
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.run_context import open_run
from niwaki.workflow.run_directory import RunDirectory
from niwaki.workflow.stages.sources import train_sources
from niwaki.workflow.stages.train import TrainStage, has_checkpoints

__all__ = ["train"]


@with_progress
def train(
    what: str | Path | Recipe,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    resume: bool = False,
    fresh: bool = False,
    reporter: Reporter | None = None,
) -> RunDirectory:
    """Train the model (or the encoder) of a recipe or of a run and save it into the run directory.

    resume: go on from the last checkpoint of a training that was stopped
    fresh:  begin again, whatever is there
    Raises CallError where a stopped training is in the way and neither was asked for, Interrupted on Ctrl-C.
    """
    context = open_run(what, overrides, out, reporter, encoders=True)
    run = context.run
    with run.hold():
        stopped = run.stage("train")["status"] == "started" and has_checkpoints(run)
        if resume and not has_checkpoints(run):
            raise CallError(f"{run.path} holds no checkpoint to resume from; leave --resume out")
        if stopped and not resume and not fresh:
            raise CallError(
                f"{run.path} holds a stopped training; add --resume to go on or --fresh to begin again"
            )
        train_sources(context)
        TrainStage(resume=resume, fresh=fresh).run(context, again=fresh)
    return run
