"""The steps that train on: the same model, a smaller one, or one with fewer sampling steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from niwaki.compression.distillation.config import DistillConfig, FinetuneConfig, SamplingConfig
from niwaki.compression.distillation.distribution_matching import DistributionMatching
from niwaki.compression.distillation.easy_consistency import EasyConsistency
from niwaki.compression.distillation.fewer_steps import Consistency, FewerSteps, Progressive, diffusion_of
from niwaki.compression.distillation.finetune import Progress, finetune, train_on
from niwaki.compression.distillation.reflow import Reflow
from niwaki.compression.distillation.student import smaller, with_sampling
from niwaki.compression.distillation.temperature import has_temperature, matched_temperature, spread_option
from niwaki.compression.steps import Outcome, StepContext, step
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.core.errors import NothingToDo
from niwaki_runtime.samplers.solvers import SOLVERS

__all__: list[str] = []


@step("finetune", lambda config: config.steps)
def _finetune(model: GenerativeModel, config: FinetuneConfig, context: StepContext) -> Outcome:
    return Outcome(_trained(model, config, context))


@step("distill", lambda config: config.steps)
def _distill(model: GenerativeModel, config: DistillConfig, context: StepContext) -> Outcome:
    if config.student:
        return Outcome(_trained(smaller(context.original, config.student), config, context))
    before = diffusion_of(model)
    if config.evaluations >= before.steps:
        raise CallError(f"the model samples in {before.steps} steps; {config.evaluations} are not fewer")
    made = METHODS[config.method](model, config, context)
    after = f"{config.evaluations} steps instead of {before.evaluations()} network evaluations"
    return Outcome(made, notes=(after,), teaches=True)


@step("sampling")
def _sampling(model: GenerativeModel, config: SamplingConfig, context: StepContext) -> Outcome:
    made, notes = copy.deepcopy(model), list[str]()
    asked: dict[str, Any] = {"solver": config.solver, "spacing": config.spacing}
    asked = {name: value for name, value in asked.items() if value is not None}
    if asked or config.evaluations:
        before = diffusion_of(model)
        if config.evaluations:
            asked["steps"] = SOLVERS[config.solver or before.solver].steps(config.evaluations)
        with_sampling(made, **asked)
        after = diffusion_of(made)
        notes.append(f"{after.steps} steps of {after.solver} instead of {before.steps} of {before.solver}")
    if config.temperature is not None:
        notes.append(_tempered(made, config, context))
    if made.sampler() == model.sampler():
        raise NothingToDo(f"the step 'sampling' changed nothing: {'; '.join(notes)}")
    return Outcome(made, notes=tuple(notes))


def _tempered(made: GenerativeModel, config: SamplingConfig, context: StepContext) -> str:
    if not config.needs_extractor:
        with_sampling(made, temperature=config.temperature)
        return f"temperature {config.temperature:g}"
    if not has_temperature(made):  # so that one plan serves every model
        return f"'{made.name}' is no generator of one noise, so it has no temperature to match"
    found, share = matched_temperature(
        made, context.original, extractor=context.extractor, condition=context.condition, seed=context.seed
    )
    option = spread_option(made)
    with_sampling(made, **{option: found})
    return (
        f"{option} {found:g}: samples lay at {share:.3f} of the uncompressed model's distances from each "
        "other"
    )


def _trained(model: GenerativeModel, config: FinetuneConfig, context: StepContext) -> GenerativeModel:
    return finetune(
        model,
        context.original,
        context.training_split(),
        config,
        seed=context.seed,
        directory=context.directory / "training",
        progress=_on_progress(context),
    )


def _on_progress(context: StepContext, done: int = 0, total: int = 0) -> Progress:
    """Progress of a training that begins after `done` of `total` steps."""

    def on_progress(at: int, of: int, info: Mapping[str, float]) -> None:
        context.on_progress(done + at, total or of, info)

    return on_progress


def _halved(model: GenerativeModel, config: DistillConfig, context: StepContext) -> GenerativeModel:
    """Twice as many steps as the student's are the teacher's, and the student is the next one's teacher."""
    rounds = max(1, math.ceil(math.log2(diffusion_of(model).steps / config.evaluations)))
    each, student = max(1, config.steps // rounds), model
    for k in range(rounds):
        steps = config.evaluations * 2 ** (rounds - 1 - k)
        both = Progressive(copy.deepcopy(student), copy.deepcopy(student), config, steps)
        student = _fewer(both, config, context, f"halving-{k + 1}", each, k * each, rounds * each)
        with_sampling(student, steps=steps, **_unguided(student), solver="ddim", spacing="trailing")
    return student


def _jumps(
    kind: type[FewerSteps], visits: Callable[[GenerativeModel, DistillConfig], int]
) -> Callable[[GenerativeModel, DistillConfig, StepContext], GenerativeModel]:
    """Trained by `kind` on the times of so many steps, to be sampled by jumps to the end."""

    def made(model: GenerativeModel, config: DistillConfig, context: StepContext) -> GenerativeModel:
        both = kind(copy.deepcopy(model), copy.deepcopy(model), config, visits(model, config))
        student = _fewer(both, config, context, config.method, config.steps, 0, config.steps)
        few = {"steps": config.evaluations, "solver": "consistency", "spacing": "trailing"}
        with_sampling(student, **_unguided(student), **few)
        return student

    return made


def _straightened(model: GenerativeModel, config: DistillConfig, context: StepContext) -> GenerativeModel:
    # A grid on which the student's few times lie.
    visits = config.evaluations * math.ceil(diffusion_of(model).steps / config.evaluations)
    both = Reflow(copy.deepcopy(model), copy.deepcopy(model), config, visits)
    student = _fewer(both, config, context, "reflow", config.steps, 0, config.steps)
    few = {"steps": config.evaluations, "solver": "euler", "spacing": "trailing"}
    with_sampling(student, **_unguided(student), **few)
    return student


def _unguided(student: GenerativeModel) -> dict[str, Any]:
    """What the sampler of a student becomes that says itself what its teacher was guided to: a weak denoiser
    is not asked any more, and so does not ship."""
    return {"guidance": 1.0, **({"guide": ""} if diffusion_of(student).guide else {})}


METHODS: dict[str, Callable[[GenerativeModel, DistillConfig, StepContext], GenerativeModel]] = {
    "progressive": _halved,
    "consistency": _jumps(Consistency, lambda model, config: diffusion_of(model).steps),
    "easy_consistency": _jumps(EasyConsistency, lambda model, config: config.evaluations),
    "distribution_matching": _jumps(DistributionMatching, lambda model, config: config.evaluations),
    "reflow": _straightened,
}


def _fewer(
    both: FewerSteps,
    config: DistillConfig,
    context: StepContext,
    name: str,
    steps: int,
    done: int,
    total: int,
) -> GenerativeModel:
    directory: Path = context.directory / "training" / name
    return train_on(
        both,
        context.training_split(),
        config,
        seed=context.seed,
        steps=steps,
        directory=directory,
        progress=_on_progress(context, done, total),
    )
