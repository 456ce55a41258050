"""One trial: train with its settings, judge on the validation split."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch

from niwaki.core.contract import CallError
from niwaki.core.store import read_jsonl
from niwaki.data import Dataset
from niwaki.evaluation.judges import Figure
from niwaki.recipe import Recipe
from niwaki.report.records import TrainingRecord
from niwaki.training.changed import everywhere
from niwaki.training.failures import may_end
from niwaki.training.hardware import choose_device
from niwaki.training.identity import validation_decides
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.judging import judge_runner
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.run_directory import RunDirectory
from niwaki.workflow.stages.train import TrainStage
from niwaki.workflow.tuning.study import Study
from niwaki.workflow.tuning.targets import wanted_metrics

__all__ = ["Outcome", "Pruned", "carry_out", "judging_context", "recipe_of"]


class Pruned(Exception):
    """A trial that is not worth its end."""


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    values:  by target, the mean over its repeats
    repeats: the same of each
    seconds: that it took in this call
    """

    values: dict[str, float]
    repeats: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def judging_context(study: Study, reporter: Reporter, dataset: Dataset | None = None) -> EvaluationContext:
    """What judges all trials alike: the recipe's own data and extractors, whatever a trial trains on.

    dataset: the recipe's, where it was read already
    """
    names = [target.name for target in study.targets]
    config = study.recipe.evaluate.model_copy(update={"n": study.config.n, "metrics": wanted_metrics(names)})
    context = EvaluationContext(
        study.recipe.data, config, seed=study.recipe.seed, cache=study.cache, reporter=reporter
    )
    if dataset is not None:
        context.dataset = dataset
    return context


def recipe_of(study: Study, settings: Mapping[str, Any], repeat: int = 0) -> Recipe:
    """The whole recipe of a trial. Raises CallError where its settings do not go together."""
    recipe = study.space.applied(settings)
    return recipe.model_copy(update={"seed": (recipe.seed + repeat) % 2**32}) if repeat else recipe


def carry_out(
    study: Study,
    number: int,
    settings: Mapping[str, Any],
    context: EvaluationContext,
    on_loss: Callable[[int, float], None],
) -> Outcome:
    """Train and judge a trial, all its repeats; trainings that a killed process has begun go on.

    on_loss: called with (steps done, held-out loss) in the first repeat; it may raise Pruned
    Raises Pruned, and whatever a training or a judge raises.
    """
    began = time.monotonic()
    found = [
        _repeat(study, number, recipe_of(study, settings, k), k, context, on_loss)
        for k in range(study.config.repeats)
    ]
    means = {name: fmean(one[name] for one in found) for name in found[0]}
    return Outcome(means, found, round(time.monotonic() - began, 3))


def _repeat(
    study: Study,
    number: int,
    recipe: Recipe,
    k: int,
    context: EvaluationContext,
    on_loss: Callable[[int, float], None],
) -> dict[str, float]:
    trained = _watched(study, recipe)
    run = RunDirectory.create(trained, study.trial(number) / f"seed-{recipe.seed}")
    same = recipe.data == study.recipe.data
    mine = RunContext(run, context.reporter, data=context.dataset if same else None)
    if not same:
        _check_data(mine.dataset, context.dataset)

    def validated(step: int, measured: dict[str, float]) -> None:
        if k == 0 and "loss" in measured:
            on_loss(step, measured["loss"])

    with run.hold():
        TrainStage(on_validation=validated).run(mine)
    record = TrainingRecord.read(run.path) or TrainingRecord()
    assert trained.train is not None
    collapsed = [told for told in record.told if may_end(told)]
    if study.watches and collapsed and record.steps < trained.train.total_steps:
        raise Pruned(f"ended at step {record.steps:,}: {collapsed[-1]['text']}")
    values = _values(study, recipe, mine, record, context)
    shutil.rmtree(run.path / "checkpoints", ignore_errors=True)
    return values


def _values(
    study: Study, recipe: Recipe, mine: RunContext, record: TrainingRecord, context: EvaluationContext
) -> dict[str, float]:
    """By target."""
    figures: list[Figure] = []
    if any(target.figure for target in study.targets):
        model = mine.model
        model.to(choose_device(mine.device))
        with torch.no_grad():
            judged = judge_runner(context, model, "the trial's model", split="validation")
        figures = [figure for judgement in judged for figure in judgement.section.figures]
    loss = None
    assert recipe.train is not None
    if recipe.train.keep_best:
        loss = record.best_loss
    else:
        seen = [line["validation/loss"] for line in read_jsonl(mine.run.path / "metrics.jsonl")
                if line.get("validation/loss") is not None]  # fmt: skip
        loss = seen[-1] if seen else None
    return {target.name: target.read(figures, loss) for target in study.targets}


def _watched(study: Study, recipe: Recipe) -> Recipe:
    """The recipe as a trial is trained: it ends where it collapses, and is validated often enough to be ended
    by its loss."""
    train = recipe.train
    assert train is not None
    if study.watches and train.watch is not None:
        train = everywhere(train, watch=train.watch.model_copy(update={"stop": True}))
    free = not (validation_decides(train) or train.validate_every)
    if study.prunes_by != "none" and free:  # where validation decides over weights, it stays as it is
        train = train.model_copy(update={"validate_every": study.validations[0]})
    return recipe.model_copy(update={"train": train})


def _check_data(mine: Dataset, judged: Dataset) -> None:
    """Raises CallError where a trial's data cannot be judged by the study's."""
    a, b = mine.validation.tensors(), judged.validation.tensors()
    if a.keys() != b.keys() or any(not torch.equal(a[name], b[name]) for name in a):
        raise CallError(
            "these settings of 'data' change the validation split, by which all trials are judged"
        )
