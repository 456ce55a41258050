"""Diffusion solvers: one pure function per paper, one signature for all.

    step(model, x, levels, fresh, project) → x₀

model:   x, level index → predicted (x₀, ε)
levels:  (α, σ) at each visited time, and (1, 0) at the end: one more than there are steps
fresh:   draw → standard normal noise like x
project: x, draw → x, after every step (the identity where nothing is asked)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

__all__ = ["SOLVERS"]

Array = Any
Model = Callable[[Array, int], tuple[Array, Array]]
Levels = list[tuple[float, float]]


def ddim(
    model: Model,
    x: Array,
    levels: Levels,
    fresh: Callable[[int], Array],
    project: Callable[[Array, int], Array],
    eta: float = 0.0,
    large: bool = False,
) -> Array:
    """Song, Meng & Ermon 2021, Equations 12 and 16; η = 0 is deterministic, η = 1 is DDPM's posterior.

    large: the noise has the variance β of the forward step instead of the posterior's β̃
    """
    for i, ((a, s), (a_next, s_next)) in enumerate(pairwise(levels)):
        x0, eps = model(x, i)
        # σ(η) = η √((1−ᾱ')/(1−ᾱ)) √(1−ᾱ/ᾱ')
        step = math.sqrt(max(1.0 - (a / a_next) ** 2, 0.0))  # √β of all that lies between the two times
        noise = eta * (s_next / s) * step
        x = a_next * x0 + math.sqrt(max(s_next**2 - noise**2, 0.0)) * eps
        if noise > 0.0:
            x = x + (step if large else noise) * fresh(i)
        x = project(x, i)
    return x


def dpmpp_2m(
    model: Model,
    x: Array,
    levels: Levels,
    fresh: Callable[[int], Array],
    project: Callable[[Array, int], Array],
) -> Array:
    """DPM-Solver++(2M), Lu et al. 2022, Algorithm 2: multistep on x₀ in λ = log(α/σ), whose step is h.

    The first step is of first order for want of a predecessor, and so is the last one, where h = ∞.
    """
    previous, h_previous = None, 0.0
    for i, ((a, s), (a_next, s_next)) in enumerate(pairwise(levels)):
        x0, _ = model(x, i)
        if s_next == 0.0:
            x = x0 * a_next  # h = ∞
        else:
            h = math.log(a_next / s_next) - math.log(a / s)
            d = x0
            if previous is not None:
                r = h_previous / h
                d = (1.0 + 0.5 / r) * x0 - (0.5 / r) * previous
            x = (s_next / s) * x - a_next * math.expm1(-h) * d
            previous, h_previous = x0, h
        x = project(x, i)
    return x


def consistency(
    model: Model,
    x: Array,
    levels: Levels,
    fresh: Callable[[int], Array],
    project: Callable[[Array, int], Array],
) -> Array:
    """Multistep consistency sampling, Song et al. 2023, Algorithm 1: jump to the end, and add fresh noise."""
    for i, (a_next, s_next) in enumerate(levels[1:]):
        x0, _ = model(x, i)
        x = x0 if s_next == 0.0 else a_next * x0 + s_next * fresh(i)
        x = project(x, i)
    return x


SOLVERS: dict[str, Callable[..., Array]] = {
    "ddim": ddim,
    "ddpm": partial(
        ddim, eta=1.0
    ),  # ancestral sampling with the posterior variance β̃ (Ho et al. 2020, Equation 7)
    "ddpm_large": partial(ddim, eta=1.0, large=True),  # the same with the variance β (Section 3.2)
    "dpmpp_2m": dpmpp_2m,
    "consistency": consistency,
}
