"""The inputs of any program, for n samples: rows of the data, of examples, or what other programs give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from niwaki.core.contract import CallError, ConditionSpec, GenerativeModel, Runner
from niwaki.data.columns import Column
from niwaki.data.dataset import Split
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.specs import SAMPLE

__all__ = [
    "SplitInputs",
    "example_inputs",
    "examples_of",
    "inputs_of",
    "make_inputs",
    "split_inputs",
    "with_defaults",
]


def make_inputs(
    runner: Runner,
    program: str,
    n: int,
    split: Split | None = None,
    *,
    start: int = 0,
    examples: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """What `program` is given for samples start … start+n−1, one row each, by input name.

    An input is the column of its name, in the order of the split, from its beginning again where that ends.
    Without such a column it is taken from `examples`; else it is left out where it has a default (classes in
    turn, nothing asked), and made by the program whose output it is where it has none (the latents that
    `decode` is given come from `encode`).
    Training, calibration, parity, timing, evaluation and verdict all ask here.
    Raises CallError for a column that is not what the program wants, and where nothing gives an input.
    """
    return _inputs(runner, program, n, split, start, examples or {}, (program,))


def _inputs(
    runner: Runner,
    program: str,
    n: int,
    split: Split | None,
    start: int,
    examples: Mapping[str, np.ndarray],
    asked: tuple[str, ...],
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, spec in runner.program(program).inputs.items():
        if split is not None and name in split.columns:
            found[name] = _rows(name, spec, split.columns[name], start, n)
        elif name in examples:
            rows = np.take(examples[name], _around(start, n, len(examples[name])), 0)
            found[name] = spec.check(name, _filled(spec, rows), n)
        elif not with_defaults(spec):
            found[name] = _made(runner, name, spec, n, split, start, examples, asked)
    return found


@dataclass(frozen=True)
class SplitInputs:
    """The inputs of a program as a function of (start, n): rows of a split, as `make_inputs` says.

    `of(program)` are those of another one.
    """

    runner: Runner
    split: Split
    program: str = SAMPLING

    def __call__(self, start: int, n: int) -> dict[str, np.ndarray]:
        return make_inputs(self.runner, self.program, n, self.split, start=start)

    def of(self, program: str) -> SplitInputs:
        return replace(self, program=program)


def split_inputs(runner: Runner, split: Split, program: str = SAMPLING) -> SplitInputs:
    """The inputs of a program as a function of (start, n): what calibration, parity and timing pass on."""
    return SplitInputs(runner, split, program)


def inputs_of(runner: Runner, program: str, n: int, asked: Any) -> Any:
    """What to give any program where `asked` says what samples are asked for.

    asked: what `sample` is given; where it comes from a split (`split_inputs`), so do others' inputs
    Raises CallError where nothing gives them.
    """
    if program == SAMPLING:
        return asked
    if isinstance(asked, SplitInputs):
        return make_inputs(runner, program, n, asked.split)
    return make_inputs(runner, program, n)


def example_inputs(model: GenerativeModel, split: Split | None = None, n: int = 4) -> dict[str, np.ndarray]:
    """A few rows of every input that shipped programs cannot do without: what travels in a bundle."""
    found: dict[str, np.ndarray] = {}
    for name, program in model.shipped_programs().items():
        needed = {k for k, spec in program.inputs.items() if not with_defaults(spec)}
        if needed:
            made = make_inputs(model, name, n, split)
            found |= {k: v for k, v in made.items() if k in needed}
    return found


def examples_of(model: GenerativeModel, asked: Any) -> dict[str, np.ndarray]:
    """`example_inputs` from where `asked` takes its own (`split_inputs`); none where that is no split."""
    return example_inputs(model, asked.split) if isinstance(asked, SplitInputs) else {}


def with_defaults(spec: ConditionSpec) -> bool:
    """Whether an input may be left out."""
    return spec.default(0, 1) is not None


def _rows(name: str, spec: ConditionSpec, column: Column, start: int, n: int) -> np.ndarray:
    index = torch.from_numpy(_around(start, n, len(column))).to(column.data.device)
    value = _filled(spec, column.values(index).cpu().numpy())
    if tuple(value.shape[1:]) != tuple(spec.shape):
        raise CallError(
            f"the column '{name}' holds {column.spec.modality} of shape {tuple(value.shape[1:])}, and the "
            f"model wants {tuple(spec.shape)}; name another one with data.columns.{name}"
        )
    return spec.check(name, value, n)


def _filled(spec: ConditionSpec, rows: np.ndarray) -> np.ndarray:
    """Rows of tokens that are shorter than what is asked, where that may be less than the whole (a prompt):
    filled up with what says "nothing asked"."""
    if spec.value.axes != "T" or not spec.integer or spec.null is None or rows.ndim != 2:
        return rows
    room = spec.shape[0] - rows.shape[1]
    return rows if room <= 0 else np.pad(rows, ((0, 0), (0, room)), constant_values=int(spec.null))


def _around(start: int, n: int, length: int) -> np.ndarray:
    return np.arange(start, start + n, dtype=np.int64) % max(length, 1)


def _made(
    runner: Runner,
    name: str,
    spec: ConditionSpec,
    n: int,
    split: Split | None,
    start: int,
    examples: Mapping[str, Any],
    asked: tuple[str, ...],
) -> np.ndarray:
    """The input as the output of another program."""
    able = runner.programs()
    # Samples are asked for first where samples are wanted, and last where latents of the same kind are.
    for other in sorted(able, key=lambda p: (p == SAMPLING) != (name == SAMPLE)):
        program = able[other]
        if other in asked or program.output != spec.value:
            continue
        inputs = _inputs(runner, other, n, split, start, examples, (*asked, other))
        return np.asarray(runner.backend().numpy(runner.run(other, n, inputs=inputs, start=start)))
    raise CallError(
        f"the program '{asked[-1]}' needs '{name}', which is no column of the data and no program's output; "
        f"give it, or name its column with data.columns.{name}"
    )
