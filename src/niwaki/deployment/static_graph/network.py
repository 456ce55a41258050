"""Steps on arrays whose shapes are all known. Networks and samplers alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["TYPES", "Array", "Network", "Quantized", "Step"]

TYPES = ("float32", "int8", "uint8", "int32", "uint32", "int16", "uint16", "bool")
"""numpy names. What ONNX counts in 64 bits has 32 here."""


@dataclass(frozen=True)
class Array:
    """Shape (of one sample, with the batch axis of length 1 where ONNX has one) and numpy name of the
    values."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Quantized:
    """A constant that is stored as integers q and means (q − zero) · scale, one scale per row of `axis` (or
    one for all)."""

    values: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    axis: int

    def real(self) -> np.ndarray:
        """In float32."""
        shape = [1] * self.values.ndim
        if self.scale.size > 1:
            shape[self.axis] = self.scale.size
        zero = self.zero.astype(np.float32).reshape(shape if self.zero.size > 1 else [1] * len(shape))
        scale = self.scale.reshape(shape)
        return ((self.values.astype(np.float32) - zero) * scale).astype(np.float32)


@dataclass(frozen=True)
class Step:
    """One operator on named arrays.

    attributes: what ONNX says of it, or what a pass has worked out
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Network:
    """Steps in an order in which they can be done.

    arrays:    of every name, constants among them
    constants: values of those that are known
    quantized: how those among them are stored that are integers in the bundle
    views:     names of arrays that are another one's storage, read with another shape
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arrays: dict[str, Array]
    constants: dict[str, np.ndarray]
    quantized: dict[str, Quantized]
    steps: list[Step]
    views: dict[str, str] = field(default_factory=dict)

    def storage(self, name: str) -> str:
        """The array in whose storage it lies."""
        while name in self.views:
            name = self.views[name]
        return name

    def uses(self) -> Counter[str]:
        """How often the storage of each name is read; by whoever called, too, where it is an output."""
        found = Counter(self.storage(i) for step in self.steps for i in step.inputs)
        found.update(self.storage(o) for o in self.outputs)
        return found

    def remove_unused(self, also: Iterable[str] = ()) -> None:
        """Leave out steps of which nobody reads a result."""
        needed = {self.storage(o) for o in (*self.outputs, *also)}
        left = []
        for step in reversed(self.steps):
            if any(self.storage(o) in needed for o in step.outputs):
                needed.update(map(self.storage, step.inputs))
                left.append(step)
        self.steps = left[::-1]
