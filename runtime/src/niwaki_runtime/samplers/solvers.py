"""Diffusion solvers: one pure function per paper, one signature for all.

    run(model, x, levels, fresh, project) → x₀

model:   x, level index → predicted (x₀, ε)
levels:  (α, σ) at each visited time and at the end, often (1, 0): one more than there are steps
fresh:   draw → standard normal noise like x
project: x, draw → x, after every step (the identity where nothing is asked)

Between two levels α and σ go straight, so that dx = x₀ dα + ε dσ holds on every path (the probability flow).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

__all__ = ["SOLVERS", "Solver"]

Array = Any
Model = Callable[[Array, int], tuple[Array, Array]]
Levels = list[tuple[float, float]]
Fresh = Callable[[int], Array]
Project = Callable[[Array, int], Array]


@dataclass(frozen=True)
class Solver:
    """A solver and what it costs.

    run:       the algorithm
    per_step:  calls of the model in each step but the last, which calls it once
    ancestral: it adds the noise of a variance-preserving forward process
    """

    run: Callable[..., Array]
    per_step: int = 1
    ancestral: bool = False

    def __call__(self, model: Model, x: Array, levels: Levels, fresh: Fresh, project: Project) -> Array:
        return self.run(model, x, levels, fresh, project)

    def evaluations(self, steps: int) -> int:
        """Calls of the model in so many steps."""
        return self.per_step * (steps - 1) + 1

    def steps(self, evaluations: int) -> int:
        """How many steps can be taken with so many calls of the model."""
        return max(1, (evaluations - 1) // self.per_step + 1)


SOLVERS: dict[str, Solver] = {}


def solver(name: str, **costs: Any) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """Decorator: enter a solver under its name."""

    def enter(run: Callable[..., Array]) -> Callable[..., Array]:
        SOLVERS[name] = Solver(run, **costs)
        return run

    return enter


@solver("ddim")
def ddim(
    model: Model,
    x: Array,
    levels: Levels,
    fresh: Fresh,
    project: Project,
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


SOLVERS["ddpm"] = Solver(partial(ddim, eta=1.0), ancestral=True)
"""Ancestral sampling with the posterior variance β̃ (Ho et al. 2020, Equation 7)."""

SOLVERS["ddpm_large"] = Solver(partial(ddim, eta=1.0, large=True), ancestral=True)
"""The same with the variance β (Section 3.2)."""


@solver("euler")
def euler(model: Model, x: Array, levels: Levels, fresh: Fresh, project: Project) -> Array:
    """Euler's method, as in Karras et al. 2022, Algorithm 1 without its correction, on any path:
    x + Δα x₀ + Δσ ε = α' x₀ + σ' ε, which is DDIM's step too."""
    for i, (a_next, s_next) in enumerate(levels[1:]):
        x0, eps = model(x, i)
        x = project(a_next * x0 + s_next * eps, i)
    return x


@solver("heun", per_step=2)
def heun(model: Model, x: Array, levels: Levels, fresh: Fresh, project: Project) -> Array:
    """Heun's method, Karras et al. 2022, Algorithm 1, on any path: Euler's step, then the mean of the slopes
    at its two ends. The last step is Euler's: no network is asked at the end."""
    for i, ((a, s), (a_next, s_next)) in enumerate(pairwise(levels)):
        x0, eps = model(x, i)
        ahead = a_next * x0 + s_next * eps
        if i + 2 < len(levels):
            x0_next, eps_next = model(ahead, i + 1)
            ahead = 0.5 * (ahead + x + (a_next - a) * x0_next + (s_next - s) * eps_next)
        x = project(ahead, i)
    return x


@solver("dpmpp_2m")
def dpmpp_2m(model: Model, x: Array, levels: Levels, fresh: Fresh, project: Project) -> Array:
    """DPM-Solver++(2M), Lu et al. 2022, Algorithm 2: multistep on x₀ in λ = log(α/σ), whose step is h.

    The first step is of first order for want of a predecessor, and so is the last one, where h = ∞.
    """
    previous, h_previous = None, 0.0
    for i, ((a, s), (a_next, s_next)) in enumerate(pairwise(levels)):
        x0, _ = model(x, i)
        if s_next == 0.0:
            x = x0 * a_next  # h = ∞
        else:
            h = math.log(a_next / s_next) - (math.log(a / s) if a else -math.inf)  # pure noise: λ = −∞
            d = x0
            if previous is not None and h_previous < math.inf:
                r = h_previous / h
                d = (1.0 + 0.5 / r) * x0 - (0.5 / r) * previous
            x = (s_next / s) * x - a_next * math.expm1(-h) * d
            previous, h_previous = x0, h
        x = project(x, i)
    return x


@solver("consistency")
def consistency(model: Model, x: Array, levels: Levels, fresh: Fresh, project: Project) -> Array:
    """Multistep consistency sampling, Song et al. 2023, Algorithm 1: jump to the end, and add fresh noise."""
    for i, (a_next, s_next) in enumerate(levels[1:]):
        x0, _ = model(x, i)
        x = x0 if s_next == 0.0 else a_next * x0 + s_next * fresh(i)
        x = project(x, i)
    return x
