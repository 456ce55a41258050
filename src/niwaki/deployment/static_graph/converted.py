"""A graph in another program's format, and how it is called here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from niwaki_runtime.samplers.base import State

__all__ = ["HALF", "Converted", "ConvertedGraph", "Execute"]

HALF = 2.0**-6
"""What computing in float16 may change a sample by: eleven bits of each number, of which sums lose some."""

Execute = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""Inputs of a graph for one sample, in its order → its outputs."""


@dataclass(frozen=True)
class Converted:
    """
    files:   contents by path below the target's folder; the first is the one that a program opens
    record:  what the target says of this graph
    step:    of the coarsest rounding that the format adds to the bundle's; 0 where it adds none
    """

    files: Mapping[str, bytes]
    record: Mapping[str, Any]
    step: float = 0.0

    @property
    def file(self) -> str:
        """What a program opens: a file, or the folder of several."""
        return PurePosixPath(next(iter(self.files))).parts[0]

    @property
    def bytes(self) -> int:
        return sum(map(len, self.files.values()))


class ConvertedGraph:
    """Called as a bundle's sampler calls a graph, for one sample at a time: arrays in the types and shapes of
    the graph, one new array or a tuple of them out.

    inputs, outputs: type and shape of each by name, in the order of the call
    """

    def __init__(
        self,
        execute: Execute,
        inputs: Mapping[str, Sequence[Any]],
        outputs: Mapping[str, Sequence[Any]],
        state: tuple[State, ...] = (),
    ) -> None:
        self._execute, self.state = execute, state
        self._inputs, self._outputs = list(inputs.values()), list(outputs.values())

    def __call__(self, *arrays: np.ndarray) -> Any:
        fed = [
            np.ascontiguousarray(values, kind).reshape(shape)
            for values, (kind, *shape) in zip(arrays, self._inputs, strict=True)
        ]
        out = [
            np.array(values, kind).reshape(shape)
            for values, (kind, *shape) in zip(self._execute(fed), self._outputs, strict=True)
        ]
        return out[0] if len(out) == 1 else tuple(out)
