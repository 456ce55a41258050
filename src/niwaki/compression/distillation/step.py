"""The steps that train on: the same model, a smaller one, or one with fewer sampling steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niwaki.compression.distillation.config import DistillConfig, FinetuneConfig, SamplingConfig
from niwaki.compression.distillation.fewer_steps import Consistency, FewerSteps, Progressive, diffusion_of
from niwaki.compression.distillation.finetune import Progress, finetune, train_on
from niwaki.compression.distillation.student import smaller, with_sampling
from niwaki.compression.distillation.temperature import matched_temperature
from niwaki.compression.steps import Outcome, Workshop, step
from niwaki.core.contract import CallError, GenerativeModel, NiwakiError
from niwaki_runtime.samplers.solvers import SOLVERS

__all__: list[str] = []


@step("finetune", lambda config: config.steps)
def _finetune(model: GenerativeModel, config: FinetuneConfig, bench: Workshop) -> Outcome:
    return Outcome(_trained(model, config, bench))


@step("distill", lambda config: config.steps)
def _distill(model: GenerativeModel, config: DistillConfig, bench: Workshop) -> Outcome:
    if config.student:
        return Outcome(_trained(smaller(bench.original, config.student), config, bench))
    before = diffusion_of(model)
    if config.evaluations >= before.steps:
        raise CallError(f"the model samples in {before.steps} steps; {config.evaluations} are not fewer")
    made = (_halved if config.method == "progressive" else _consistent)(model, config, bench)
    after = f"{config.evaluations} steps instead of {before.evaluations()} network evaluations"
    return Outcome(made, notes=(after,), teaches=True)


@step("sampling", lambda config: 1)
def _sampling(model: GenerativeModel, config: SamplingConfig, bench: Workshop) -> Outcome:
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
        notes.append(_tempered(made, config, bench))
    if made.sampler() == model.sampler():
        raise NiwakiError(f"the step 'sampling' changed nothing: {'; '.join(notes)}")
    return Outcome(made, notes=tuple(notes))


def _tempered(made: GenerativeModel, config: SamplingConfig, bench: Workshop) -> str:
    if not config.looks:
        with_sampling(made, temperature=config.temperature)
        return f"temperature {config.temperature:g}"
    found, share = matched_temperature(
        made, bench.original, looks=bench.looks, condition=bench.condition, seed=bench.seed
    )
    with_sampling(made, temperature=found)
    return (
        f"temperature {found:g}: samples lay at {share:.3f} of the uncompressed model's distances from each "
        "other"
    )


def _trained(model: GenerativeModel, config: FinetuneConfig, bench: Workshop) -> GenerativeModel:
    return finetune(
        model,
        bench.original,
        bench.training_split(),
        config,
        seed=bench.seed,
        directory=bench.directory / "training",
        progress=_told(bench),
    )


def _told(bench: Workshop, done: int = 0, total: int = 0) -> Progress:
    """Progress of a training that begins after `done` of `total` steps."""

    def told(at: int, of: int, info: Mapping[str, float]) -> None:
        bench.told(done + at, total or of, info)

    return told


def _halved(model: GenerativeModel, config: DistillConfig, bench: Workshop) -> GenerativeModel:
    """Twice as many steps as the student's are the teacher's, and the student is the next one's teacher."""
    rounds = max(1, math.ceil(math.log2(diffusion_of(model).steps / config.evaluations)))
    each, student = max(1, config.steps // rounds), model
    for k in range(rounds):
        steps = config.evaluations * 2 ** (rounds - 1 - k)
        both = Progressive(copy.deepcopy(student), copy.deepcopy(student), config, steps)
        student = _fewer(both, config, bench, f"halving-{k + 1}", each, k * each, rounds * each)
        with_sampling(student, steps=steps, guidance=1.0, solver="ddim", spacing="trailing")
    return student


def _consistent(model: GenerativeModel, config: DistillConfig, bench: Workshop) -> GenerativeModel:
    both = Consistency(copy.deepcopy(model), copy.deepcopy(model), config, diffusion_of(model).steps)
    student = _fewer(both, config, bench, "consistency", config.steps, 0, config.steps)
    with_sampling(student, steps=config.evaluations, guidance=1.0, solver="consistency", spacing="trailing")
    return student


def _fewer(
    both: FewerSteps, config: DistillConfig, bench: Workshop, name: str, steps: int, done: int, total: int
) -> GenerativeModel:
    directory: Path = bench.directory / "training" / name
    return train_on(
        both,
        bench.training_split(),
        config,
        seed=bench.seed,
        steps=steps,
        directory=directory,
        progress=_told(bench, done, total),
    )
