"""Diffusion solvers: one pure function per paper, one signature for all.

    run(model, x, levels, fresh, project) → x₀

model:   x, level index → predicted (x₀, ε); `churned(x, i, …)` may ask it at a level with more noise
levels:  (α, σ) at each visited time and at the end, often (1, 0): one more than there are steps
fresh:   draw → standard normal noise like x
project: x, draw → x, after every step (the identity where nothing is asked)
raised:  of solvers that churn: for each step a level with more noise, or None where none is added

Between two levels α and σ go straight, so that dx = x₀ dα + ε dσ holds on every path (the probability flow).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

__all__ = ["SOLVERS", "Solver"]

Array = Any
Level = tuple[float, float]
Model = Callable[..., tuple[Array, Array]]
Levels = list[Level]
Raised = Sequence[Level | None]
Fresh = Callable[[int], Array]
Project = Callable[[Array, int], Array]


@dataclass(frozen=True)
class Solver:
    """A solver and what it costs.

    run:       the algorithm
    per_step:  calls of the model in each step but the last, which calls it once
    ancestral: it adds the noise of a variance-preserving forward process
    churns:    it takes `raised`
    """

    run: Callable[..., Array]
    per_step: int = 1
    ancestral: bool = False
    churns: bool = False

    def __call__(
        self, model: Model, x: Array, levels: Levels, fresh: Fresh, project: Project, raised: Raised = ()
    ) -> Array:
        if any(raised):
            return self.run(model, x, levels, fresh, project, raised=raised)
        return self.run(model, x, levels, fresh, project)

    def calls(self, steps: int) -> tuple[int, ...]:
        """How often the model is asked at each visited time: at all but the first as the end of one step and
        the beginning of the next, where a step asks twice."""
        return (1, *(self.per_step,) * (steps - 1))

    def evaluations(self, steps: int) -> int:
        """Calls of the model in so many steps."""
        return sum(self.calls(steps))

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


def churned(
    model: Model, x: Array, i: int, levels: Levels, fresh: Fresh, raised: Raised
) -> tuple[Array, Level, Array, Array]:
    """x with the noise of the raised level, that level, and what the model says there: Karras et al. 2022,
    Algorithm 2, lines 4 to 6, on any path: x̂/α̂ = x/α + √((σ̂/α̂)² − (σ/α)²) ε."""
    hat = raised[i] if raised else None
    if hat is None:
        return x, levels[i], *model(x, i)
    (a, s), (a_hat, s_hat) = levels[i], hat
    added = math.sqrt(max(s_hat**2 - (a_hat * s / a) ** 2, 0.0))
    x = (a_hat / a) * x + added * fresh(i)
    return x, hat, *model(x, i, raised=True)


@solver("euler", churns=True)
def euler(
    model: Model, x: Array, levels: Levels, fresh: Fresh, project: Project, raised: Raised = ()
) -> Array:
    """Euler's method, as in Karras et al. 2022, Algorithm 1 without its correction, on any path:
    x + Δα x₀ + Δσ ε = α' x₀ + σ' ε, which is DDIM's step too."""
    for i, (a_next, s_next) in enumerate(levels[1:]):
        _, _, x0, eps = churned(model, x, i, levels, fresh, raised)
        x = project(a_next * x0 + s_next * eps, i)
    return x


@solver("heun", per_step=2, churns=True)
def heun(
    model: Model, x: Array, levels: Levels, fresh: Fresh, project: Project, raised: Raised = ()
) -> Array:
    """Heun's method, Karras et al. 2022, Algorithm 1, and with churn Algorithm 2, on any path: Euler's step,
    then the mean of the slopes at its two ends. The last step is Euler's: no network is asked at the end."""
    for i, (a_next, s_next) in enumerate(levels[1:]):
        x, (a, s), x0, eps = churned(model, x, i, levels, fresh, raised)
        ahead = a_next * x0 + s_next * eps
        if i + 2 < len(levels):
            x0_next, eps_next = model(ahead, i + 1)
            ahead = 0.5 * (ahead + x + (a_next - a) * x0_next + (s_next - s) * eps_next)
        x = project(ahead, i)
    return x


@solver("heun_ratio", per_step=2)
def heun_ratio(model: Model, x: Array, levels: Levels, fresh: Fresh, project: Project) -> Array:
    """Heun's method on x/α in σ/α, of which d(x/α) = ε d(σ/α): what `heun` is where α = 1, and on other paths
    what diffusers and k-diffusion do. A step from pure noise, where σ/α has no value, is Euler's."""
    for i, ((a, s), (a_next, s_next)) in enumerate(pairwise(levels)):
        x0, eps = model(x, i)
        ahead = a_next * x0 + s_next * eps
        if i + 2 < len(levels):
            _, eps_next = model(ahead, i + 1)
            half = 0.5 * (s_next - a_next * s / a) if a else 0.0
            ahead = ahead + half * (eps_next - eps)
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
            h = _log_ratio(a_next, s_next) - _log_ratio(a, s)
            d = x0
            if previous is not None and h_previous < math.inf:
                r = h_previous / h
                d = (1.0 + 0.5 / r) * x0 - (0.5 / r) * previous
            x = (s_next / s) * x - a_next * math.expm1(-h) * d
            previous, h_previous = x0, h
        x = project(x, i)
    return x


@solver("unipc")
def unipc(model: Model, x: Array, levels: Levels, fresh: Fresh, project: Project) -> Array:
    """UniPC of order 2 with B₂(h) = e^h − 1 on x₀, Zhao et al. 2023, Algorithms 5 and 6 with the coefficients
    of their code: what the model says at the end of a step first corrects that step, then begins the next.

    The first and the last step are of first order, as those of `dpmpp_2m` are.
    """
    before: list[tuple[float, Array]] = []  # λ of the levels behind, and x₀ there, the latest last
    start = predicted = x  # where the step that is corrected began and ended
    for i, ((a, s), (a_next, s_next)) in enumerate(pairwise(levels)):
        x0, _ = model(x, i)
        lam = _log_ratio(a, s)
        if i:
            better = _corrected(start, x0, before, levels[i - 1], levels[i])
            x = better if x is predicted else x + (better - predicted)  # what `project` changed stays
        before, start = [*before[-1:], (lam, x0)], x
        if s_next == 0.0:
            x = x0 * a_next  # h = ∞
        else:
            h = _log_ratio(a_next, s_next) - lam
            x = (s_next / s) * x - a_next * math.expm1(-h) * x0
            if len(before) == 2 and math.isfinite(before[0][0]) and i + 2 < len(levels):
                r = (before[0][0] - lam) / h
                x = x - a_next * math.expm1(-h) * (0.5 / r) * (before[0][1] - x0)
        predicted, x = x, project(x, i)
    return x


def _corrected(x: Array, now: Array, before: list[tuple[float, Array]], at: Level, end: Level) -> Array:
    """UniC: the step from level `at`, where x was, to level `end`, where the model says `now` (Algorithm 5,
    whose ρ solve Equation 11)."""
    lam, x0 = before[-1]
    (_, s), (a_end, s_end) = at, end
    h = _log_ratio(a_end, s_end) - lam
    weight = a_end * math.expm1(-h)  # −α B₂
    bend = 0.5 * (now - x0)
    if len(before) == 2 and math.isfinite(before[0][0]):
        r = (before[0][0] - lam) / h
        # R ρ = b with R = [[1, 1], [r, 1]], b = (φ₂, 2 φ₃) / φ₁ in the notation of Appendix E, at −h
        one = (math.expm1(-h) / -h - 1.0) / math.expm1(-h)
        two = 2.0 * ((math.expm1(-h) / -h - 1.0) / -h - 0.5) / math.expm1(-h)
        rho = (one - two) / (1.0 - r)
        bend = (rho / r) * (before[0][1] - x0) + (one - rho) * (now - x0)
    return (s_end / s) * x - weight * x0 - weight * bend


def _log_ratio(a: float, s: float) -> float:
    """λ = log(α/σ); −∞ for pure noise."""
    return math.log(a / s) if a else -math.inf


@solver("consistency")
def consistency(model: Model, x: Array, levels: Levels, fresh: Fresh, project: Project) -> Array:
    """Multistep consistency sampling, Song et al. 2023, Algorithm 1: jump to the end, and add fresh noise."""
    for i, (a_next, s_next) in enumerate(levels[1:]):
        x0, _ = model(x, i)
        x = x0 if s_next == 0.0 else a_next * x0 + s_next * fresh(i)
        x = project(x, i)
    return x
