"""Pictures that a use works on, what they are asked to be, and the program that it runs on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from niwaki.core.errors import CallError
from niwaki.data.dataset import Dataset, Split
from niwaki.uses.base import Call
from niwaki.uses.latents import conditions_of
from niwaki.uses.reading import samples_of
from niwaki_runtime.programs import Program, Runner
from niwaki_runtime.specs import ConditionSpec, ValueSpec

__all__ = ["Given", "asked_of", "columns_of", "given_pictures", "needed_program", "run_program"]


@dataclass(frozen=True)
class Given:
    """
    x:       `(n, *shape)` in the range of the spec
    names:   of the files, or of test samples
    asked:   conditions by name, a row for each
    dataset: the data where x are test samples, so that they are the truth; else None
    """

    x: np.ndarray
    names: list[str]
    asked: dict[str, np.ndarray] = field(default_factory=dict)
    dataset: Dataset | None = None


def needed_program(runner: Runner, use: str, name: str) -> Program:
    """Raises CallError where the model lacks the program, or it makes no pictures."""
    programs = runner.programs()
    if name not in programs:
        raise CallError(
            f"'{use}' needs the program '{name}', as diffusion models have it, and this model lacks it; "
            f"of a bundle, export it too (export.programs=[sample,{name}])"
        )
    spec = programs[name].output
    if spec.axes != "CHW":
        raise CallError(f"'{use}' is for pictures, and this model makes {spec.modality}")
    return programs[name]


def given_pictures(call: Call, spec: ValueSpec, program: str, given: Collection[str], n: int) -> Given:
    """What the user named, or the first n test samples with their own classes and captions.

    program, given: whose conditions they are asked, and which of its inputs are none
    Raises CallError where conditions have to be said and are not. What a model can do without is asked as
    nothing (its null value).
    """
    x, names = samples_of(call, spec)
    dataset = None
    known: Any = call.asked
    if not call.files:
        dataset = call.dataset()
        x, names = x[:n], names[:n]
        if known is None and dataset is not None:
            inputs = call.model.program(program).inputs
            known = {k: v[: len(x)] for k, v in columns_of(dataset.test, inputs).items()}
    return Given(x, names, asked_of(call, program, len(x), given, known), dataset)


def columns_of(split: Split, inputs: Mapping[str, ConditionSpec]) -> dict[str, np.ndarray]:
    """What the data themselves say of their samples (classes, captions) that a program is asked for, by the
    names of its inputs."""
    return {
        name: column.values().cpu().numpy()
        for name, column in split.columns.items()
        if column.paired and column.spec.is_tokens and name in inputs
        and column.spec.shape == inputs[name].shape
    }  # fmt: skip


def asked_of(call: Call, program: str, n: int, given: Collection[str], known: Any) -> dict[str, np.ndarray]:
    """Conditions of n given samples, a row for each; nothing (its null value) where nothing is known and the
    model can do without. given: inputs that are no such conditions."""
    specs = {k: s for k, s in call.model.program(program).inputs.items() if k not in given}
    if known is None and specs and all(s.null is not None for s in specs.values()):
        return {k: s.check(k, np.full(s.shape, s.null), n) for k, s in specs.items()}
    return conditions_of(call, program, n, given, known)


def run_program(
    call: Call, program: str, given: Given, inputs: Mapping[str, np.ndarray], steps: int = 0, **options: Any
) -> np.ndarray:
    """Results `(n, *shape)` of a program on them. steps: of its sampler, 0 for its own number."""
    if steps:
        options["steps"] = steps
    made = call.model.run(
        program, len(given.x), seed=call.seed, inputs={**inputs, **given.asked}, progress=call.progress,
        **options,
    )  # fmt: skip
    return np.asarray(call.model.backend().numpy(made))
