"""Runs that a training takes weights from, trained first where they are missing."""

from __future__ import annotations

from pathlib import Path

from niwaki.core.contract import CallError
from niwaki.recipe import find_recipe, load_recipe
from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.weights import is_stored, sources_of
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.run_directory import RunDirectory
from niwaki.workflow.stages.train import TrainStage

__all__ = ["train_sources"]


def train_sources(context: RunContext) -> None:
    """Train what `init_from` names and is not there: of `runs/glyphs-vae` the recipe `glyphs-vae`, into that
    directory; a training that was stopped there goes on.

    Raises CallError where there is no such recipe, saying what is missing.
    """
    config = context.recipe.train
    if config is None:
        return
    trainings: tuple[TrainConfig | StageConfig, ...] = (config, *config.stages)
    for source in dict.fromkeys(s for one in trainings for s in sources_of(one)):
        if not is_stored(source.path):
            _train(source.path, context)


def _train(path: Path, context: RunContext) -> None:
    try:
        recipe = load_recipe(find_recipe(path.name))
    except CallError:
        raise CallError(
            f"train.init_from: {path} holds no weights, and there is no recipe '{path.name}' to train "
            f"them by; train them first (`niwaki train RECIPE --out {path}`)"
        ) from None
    context.reporter.note(f"{path} is missing: the recipe '{path.name}' is trained first")
    run = RunDirectory.create(recipe, path)
    inner = RunContext(run, context.reporter)
    train_sources(inner)
    with run.hold():
        TrainStage().run(inner)
