"""A call of `train` or `run` in the second or a later process that `torchrun` or SLURM has started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niwaki.core.errors import CallError
from niwaki.recipe import Overrides, Recipe, load_recipe
from niwaki.training.weights import is_stored, sources_of
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.run_directory import RunDirectory, is_run
from niwaki.workflow.stages.train import TrainStage, join_training
from niwaki.workflow.workers import launched_outside, place_among_processes

__all__ = ["join_where_not_first"]


def join_where_not_first(
    what: str | Path | Recipe | Mapping[str, Any],
    overrides: Overrides,
    out: str | Path | None,
    *,
    fresh: bool,
) -> None:
    """In the first process, and in one that is alone, nothing. In others: train along, write nothing, and
    leave: SystemExit, since all that follows a training is the first one's work.

    Raises CallError where runs that the training stands on have to be trained first.
    """
    if not launched_outside():
        return
    recipe = load_recipe(what, overrides)
    if recipe.train is not None:
        missing = [s.path for s in sources_of(recipe.train) if not is_stored(s.path)]
        if missing:
            raise CallError(
                f"train.init_from: {missing[0]} holds no weights; train it before, in one process"
            )
    if place_among_processes() == 0:
        return
    here = isinstance(what, str | Path) and is_run(what) and out is None
    path = Path(str(what)) if here else Path(out) if out is not None else Path("runs") / recipe.name
    context = RunContext(RunDirectory(path, recipe, {}), Quiet())
    if fresh or not TrainStage().holds(context):
        join_training(context, lambda: None)
    raise SystemExit(0)
