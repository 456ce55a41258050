"""How weights are averaged, by name: pure functions (n, total) → decay d of e ← e + (1 − d)(p − e) after step
n = 0 … total − 1 of a stage.

A new one is a function with `@average("name")`; its keyword arguments are its settings:
`average: {name: tail, share: 0.25}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Annotated, Any

from pydantic import Field

from niwaki.training.named_functions import filled_in
from niwaki.training.schedule import ema_decay

__all__ = ["Average", "average", "average_names", "build_average", "exponent_of", "length_of"]

Average = Callable[[int, int], float]

_AVERAGES: dict[str, Callable[..., float]] = {}

LONGEST = 12**-0.5
"""σ_rel of the uniform average (γ = 0)."""


def average(name: str) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Decorator: enter a function (n, total, *, settings) → decay under a name."""

    def enter(function: Callable[..., float]) -> Callable[..., float]:
        _AVERAGES[name] = function
        return function

    return enter


def average_names() -> list[str]:
    return sorted(_AVERAGES)


def build_average(asked: str | Mapping[str, Any] | None, ema: float) -> Average:
    """The function that a recipe's `average` names; None is the exponential one of decay `ema`.

    Raises CallError for an unknown name or a setting that does not fit.
    """
    return partial(exponential, decay=ema) if asked is None else filled_in("average", _AVERAGES, asked)


@average("exponential")
def exponential(n: int, total: int, *, decay: Annotated[float, Field(ge=0, lt=1)] = 0.999) -> float:
    """min(decay, (1 + n)/(10 + n)), as `ema` alone."""
    return ema_decay(decay, n)


@average("tail")
def tail(n: int, total: int, *, share: Annotated[float, Field(gt=0, le=1)] = 0.25) -> float:
    """The uniform average of the weights after each step of the last `share` of the stage (Polyak & Juditsky
    1992; Rakhlin, Shamir & Sridharan 2012, suffix averaging); before, the weights themselves. With k of its
    steps averaged, 1 − d = 1/(k + 1)."""
    first = total - max(round(share * total), 1)
    return 0.0 if n <= first else 1.0 - 1.0 / (n - first + 1)


@average("power")
def power(n: int, total: int, *, length: Annotated[float, Field(gt=0, lt=LONGEST)] = 0.1) -> float:
    """d = (1 − 1/t)^(γ + 1) with t = n + 1 (Karras et al. 2024, EDM2, Section 3.1): the weights after
    step t count as t^γ does, so the average grows with the training.

    length: σ_rel, the standard deviation of that density as a share of the training
    """
    return (1.0 - 1.0 / (n + 1)) ** (exponent_of(length) + 1.0)


def length_of(gamma: float) -> float:
    """σ_rel = √((γ + 1) / ((γ + 2)²(γ + 3))), the standard deviation of the density (γ + 1)·τ^γ on 0 … 1."""
    return ((gamma + 1.0) / ((gamma + 2.0) ** 2 * (gamma + 3.0))) ** 0.5


@cache
def exponent_of(length: float) -> float:
    """γ ≥ 0 of a σ_rel below that of the uniform average; the inverse of `length_of`, which falls with γ."""
    low, high = 0.0, 1.0
    while length_of(high) > length:
        high *= 2.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if length_of(middle) > length else (low, middle)
    return 0.5 * (low + high)
