"""ONNX's operators in torch, for what a bundle's graph computes to be exported by torch.

An operator is built once for a step: from its attributes and those inputs that are constants comes a function
of its inputs as tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["FIRST_ALONE", "OPERATORS", "Build", "Given", "operator"]


@dataclass(frozen=True)
class Given:
    """What is known of a step before it is computed.

    constants: of its inputs, in their order; None where a value is computed or absent
    shapes:    of its outputs
    """

    op: str
    attributes: Mapping[str, Any]
    constants: tuple[np.ndarray | None, ...]
    shapes: tuple[tuple[int, ...], ...]

    def ints(self, place: int, default: list[int] | None = None) -> list[int]:
        """A constant input as numbers; `default` where it is absent."""
        found = self.constants[place] if place < len(self.constants) else None
        return list(default or []) if found is None else [int(v) for v in np.atleast_1d(found)]

    def number(self, place: int) -> float | None:
        found = self.constants[place] if place < len(self.constants) else None
        return None if found is None else float(found)


Build = Callable[[Given], Callable[..., Any]]

OPERATORS: dict[str, Build] = {}
"""By ONNX's name."""


FIRST_ALONE: set[str] = set()
"""Operators whose function takes their first input: the others are constants, read when it is built."""


def operator(*names: str, first_alone: bool = False) -> Callable[[Build], Build]:
    """Decorator: how steps of these names are built."""

    def enter(build: Build) -> Build:
        for name in names:
            OPERATORS[name] = build
        FIRST_ALONE.update(names if first_alone else ())
        return build

    return enter


_PLAIN: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Pow": torch.pow, "Neg": torch.neg,
    "Abs": torch.abs, "Exp": torch.exp, "Log": torch.log, "Sqrt": torch.sqrt, "Sin": torch.sin,
    "Reciprocal": torch.reciprocal, "Cos": torch.cos, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid,
    "Erf": torch.erf, "Relu": torch.relu, "Floor": torch.floor, "Ceil": torch.ceil, "Round": torch.round,
    "Softplus": torch.nn.functional.softplus, "Less": torch.lt, "LessOrEqual": torch.le,
    "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Equal": torch.eq, "And": torch.logical_and,
    "Or": torch.logical_or, "Not": torch.logical_not, "MatMul": torch.matmul,
}  # fmt: skip
"""The same function of the same inputs."""


def _plain(function: Callable[..., Tensor]) -> Build:
    return lambda given: function


OPERATORS |= {name: _plain(function) for name, function in _PLAIN.items()}


@operator("Copy")
def _copy(given: Given) -> Callable[..., Tensor]:
    return torch.clone


@operator("Div")
def _div(given: Given) -> Callable[..., Tensor]:
    return lambda x, y: torch.div(x, y, rounding_mode=None if x.is_floating_point() else "trunc")


@operator("Min", "Max")
def _extreme(given: Given) -> Callable[..., Tensor]:
    function = torch.minimum if given.op == "Min" else torch.maximum

    def folded(first: Tensor, *rest: Tensor) -> Tensor:
        for one in rest:
            first = function(first, one)
        return first

    return folded


@operator("Clip", first_alone=True)
def _clip(given: Given) -> Callable[..., Tensor]:
    low, high = given.number(1), given.number(2)
    return lambda x: torch.clamp(x, low, high)


@operator("LeakyRelu")
def _leaky_relu(given: Given) -> Callable[..., Tensor]:
    slope = float(given.attributes.get("alpha", 0.01))
    return lambda x: torch.nn.functional.leaky_relu(x, slope)


@operator("Where")
def _where(given: Given) -> Callable[..., Tensor]:
    return lambda condition, x, y: torch.where(condition.bool(), x, y)


_TYPES = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 9: torch.bool}
"""ONNX's numbers of types."""


@operator("Cast")
def _cast(given: Given) -> Callable[..., Tensor]:
    kind = _TYPES.get(int(given.attributes["to"]), torch.float32)
    return lambda x: x.to(kind)


@operator("Softmax", "LogSoftmax")
def _softmax(given: Given) -> Callable[..., Tensor]:
    function = torch.softmax if given.op == "Softmax" else torch.log_softmax
    axis = int(given.attributes.get("axis", -1))
    return lambda x: function(x, axis)


_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceSum": torch.sum, "ReduceL2": torch.linalg.vector_norm,
    "ReduceMean": torch.mean, "ReduceMax": torch.amax, "ReduceMin": torch.amin,
}  # fmt: skip


@operator(*_REDUCTIONS, first_alone=True)
def _reduce(given: Given) -> Callable[..., Tensor]:
    axes = [int(v) for v in given.attributes.get("axes", [])] or given.ints(1)
    kept = bool(given.attributes.get("keepdims", 1))
    function = _REDUCTIONS[given.op]
    return lambda x: function(x, dim=axes or list(range(x.ndim)), keepdim=kept)


@operator("CumSum", first_alone=True)
def _cumsum(given: Given) -> Callable[..., Tensor]:
    (axis,) = given.ints(1)
    return lambda x: torch.cumsum(x, axis)
