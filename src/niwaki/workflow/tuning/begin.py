"""The beginning of a study: its settings are checked, its targets looked up, its time told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from niwaki.core.contract import CallError, Trainable
from niwaki.data import Dataset
from niwaki.evaluation.judges import Figure
from niwaki.evaluation.measures import measures
from niwaki.features import Encoder
from niwaki.recipe import Recipe, TuneConfig, check_data
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.estimates import Timed
from niwaki.workflow.judging import judge_runner
from niwaki.workflow.pace import about_text
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.stages.train import fresh_model
from niwaki.workflow.tuning.space import Space
from niwaki.workflow.tuning.storage import need_optuna
from niwaki.workflow.tuning.study import Study, is_study
from niwaki.workflow.tuning.targets import (
    USUAL,
    Target,
    objectives_of,
    parse_constraint,
    resolve,
    wanted_metrics,
)
from niwaki.workflow.tuning.trial import judging_context

__all__ = ["begin", "seconds_of_trial", "told_time"]

_LOOK = 64
"""Samples of the untrained model by which it is seen what judges have to say."""


def begin(
    path: Path, recipe: Recipe, config: TuneConfig, reporter: Reporter
) -> tuple[Study, EvaluationContext]:
    """The study of a directory, new or there already, its settings checked before anything is trained, and
    what judges its trials.

    Raises CallError for a key or a value that the recipe refuses, a figure that no judge gives, a rule that
    does not go with the objectives, a directory that holds another study or something else.
    """
    need_optuna()
    Space(recipe, config).check()
    if recipe.train is None:
        raise CallError("the recipe trains nothing, so there is nothing to tune")
    if is_study(path):
        study = Study.open(path, config.trials)
        study.check_same(recipe, config)
        return study, judging_context(study, reporter)
    # A call that was refused or ended before the study was written leaves what it had computed.
    if path.exists() and (not path.is_dir() or any(p.name not in (".lock", "cache") for p in path.iterdir())):
        raise CallError(f"{path} holds other things than a study; choose an empty or a new --out")
    objectives, bounded, dataset = _targets(path, recipe, config, reporter)
    if config.prune in ("median", "hyperband") and len(objectives) > 1:
        raise CallError(
            f"tune.prune: {config.prune} goes by the held-out loss, which knows nothing of a trade-off of "
            f"{' and '.join(t.name for t in objectives)}; name one in tune.objectives, the other in "
            "tune.constraints"
        )
    study = Study(path, recipe, config, objectives, bounded)
    path.mkdir(parents=True, exist_ok=True)
    study.write()
    return study, judging_context(study, reporter, dataset)


def _targets(
    path: Path, recipe: Recipe, config: TuneConfig, reporter: Reporter
) -> tuple[tuple[Target, ...], tuple[Target, ...], Dataset]:
    """Objectives and what constraints are about, looked up in what the judges have to say of the untrained
    model; and the data, which were read for it."""
    bounded = [parse_constraint(text).target for text in config.constraints]
    probe = Study(path, recipe, config, (), ())
    context = judging_context(probe, reporter)
    dataset = context.dataset
    check_data(recipe, dataset.spec)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = fresh_model(recipe, dataset)
    names = objectives_of(config.objectives, judged=not isinstance(model, Encoder))
    asked = [*names, *bounded]
    figures: Sequence[Figure] = ()
    if isinstance(model, Encoder) and any(name != "loss" for name in asked):
        raise CallError(
            f"'{recipe.model['name']}' is an encoder, which no judge knows; its objective is loss"
        )
    needs = "loss" in asked or config.prune in ("median", "hyperband")
    if needs and not _measured(model):
        raise CallError(
            f"nothing measures '{recipe.model['name']}' by a loss on held-out data; name other "
            "tune.objectives, such as fidelity, and leave tune.prune at auto"
        )
    if any(name != "loss" for name in asked):
        figures = _figures(model, context, recipe, asked)
    objectives = tuple(resolve(name, figures) for name in names)
    return objectives, tuple(resolve(name, figures) for name in bounded), dataset


def _figures(model: Any, context: EvaluationContext, recipe: Recipe, asked: Sequence[str]) -> list[Figure]:
    """What judges say of the untrained model: none is asked that cannot say what is wanted, so that a wrong
    name is refused at once. Metrics of samples in features are known without."""
    judges = context.judges(model)
    known = measures()
    words = [_bare(name) for name in asked if name != "loss"]
    in_features: list[Figure] = []
    if judges and judges[0].name == "samples":
        features = [name for name in recipe.evaluate.features
                    if name != "classifier" or context.dataset.spec.classes > 1]  # fmt: skip
        in_features = [
            Figure(f"{name.replace('_', ' ')} ({of})", 0.0, None, known[name].axis, known[name].better)
            for of in features
            for name in wanted_metrics(asked)
        ]
        words = [word for word in words if word not in known]
    for word in words:
        if word not in USUAL and not any(judge.may_say(word) for judge in judges):
            return in_features
    asked_of = [judge for judge in judges if any(word in USUAL or judge.may_say(word) for word in words)]
    if not asked_of:
        return in_features
    config = recipe.evaluate.model_copy(update={"n": _LOOK, "metrics": wanted_metrics(asked)})
    quick = EvaluationContext(
        context.dataset, config, seed=recipe.seed, cache=context.cache, reporter=context.reporter
    )
    names = [judge.name for judge in asked_of]
    mine = [judge for judge in quick.judges(model) if judge.name in names]
    found = judge_runner(quick, model, "the untrained model", judges=mine, split="validation")
    return [*in_features, *(figure for judgement in found for figure in judgement.section.figures)]


def _measured(model: Any) -> bool:
    """Whether it has a held-out loss (`Trainable.validation_loss`)."""
    own = type(model).validation_loss is not Trainable.validation_loss
    return own or any(phase.validate for phase in model.phases())


def _bare(name: str) -> str:
    word = name.partition("@")[0]
    return USUAL.get(word, word)


def seconds_of_trial(study: Study, context: EvaluationContext) -> float | None:
    """Of a trial with the recipe's own settings, without what judges do with the samples; some steps and
    samples are timed."""
    recipe, dataset = study.recipe, context.dataset
    assert recipe.train is not None

    def make() -> Any:
        with torch.random.fork_rng():
            return fresh_model(recipe, dataset)

    timed = Timed(make, dataset, recipe.train.device)
    training = timed.training(recipe.train)
    if training is None:
        return None
    judged = any(target.figure for target in study.targets)
    return study.config.repeats * (training + (timed.samples(study.config.n) if judged else 0.0))


def told_time(seconds: float, trials: int, workers: int) -> str:
    """What is said before the first trial."""
    whole = seconds * -(-trials // workers)
    return f"{about_text(whole)} for {trials} trials of {about_text(seconds)} each, without their judging"
