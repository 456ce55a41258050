"""What an operator becomes: the body of a C function, and what it is called with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.core.registry import import_modules
from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["POINTWISE", "Kernel", "Pointer", "kernel", "kernel_of", "may_overwrite", "operators",
           "pointwise"]  # fmt: skip


@dataclass(frozen=True)
class Pointer:
    """A parameter of a function: an array by its name, or values that the operator has worked out."""

    name: str
    array: str | np.ndarray
    writes: bool = False


@dataclass(frozen=True)
class Kernel:
    """The body of a C function, and its parameters. Equal bodies become one function.

    label:  what the function is called, before its number
    inline: the body is a statement of its own, with `{name}` where a pointer goes
    """

    label: str
    body: str
    pointers: tuple[Pointer, ...]
    inline: bool = False


Emitter = Callable[[Step, Network], Kernel]
Expression = Callable[..., str]

_KERNELS: dict[str, Emitter] = {}
_OVERWRITES: set[str] = set()
_INTERNAL: set[str] = set()
POINTWISE: dict[str, Expression] = {}
"""Operators that work value by value: (attributes, operands as C) → C. Operands are names or literals."""


def kernel(*ops: str, overwrites: bool = False, internal: bool = False) -> Callable[[Emitter], Emitter]:
    """Decorator: how operators are written.

    overwrites: the result may lie where an input of the same size lay
    internal:   no operator of ONNX: what passes make
    """

    def enter(emit: Emitter) -> Emitter:
        for op in ops:
            _KERNELS[op] = emit
            if overwrites:
                _OVERWRITES.add(op)
            if internal:
                _INTERNAL.add(op)
        return emit

    return enter


def pointwise(*ops: str) -> Callable[[Expression], Expression]:
    """Decorator: how the value of an operator follows from those of its inputs."""

    def enter(expression: Expression) -> Expression:
        for op in ops:
            POINTWISE[op] = expression
        return expression

    return enter


def operators() -> list[str]:
    """Names in ONNX of all that have a form in C."""
    import_modules("niwaki.deployment.c.operators")
    return sorted({*_KERNELS, *POINTWISE} - _INTERNAL)


def kernel_of(step: Step, network: Network) -> Kernel:
    return _KERNELS[step.op](step, network)


def may_overwrite(step: Step) -> bool:
    return step.op in _OVERWRITES


def attribute(step: Step, name: str, default: Any) -> Any:
    return step.attributes.get(name, default)
