"""From samples to the noise that a diffusion sampler would make them of: DDIM, backwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.around import AroundDiffusion
from niwaki_runtime.samplers.base import (
    Array,
    Noise,
    Runner,
    Sampler,
    override_each,
    register,
)
from niwaki_runtime.samplers.diffusion import Diffusion

__all__ = ["Inversion"]


@register
@dataclass(frozen=True)
class Inversion(AroundDiffusion):
    """x → z, standard normal where the model is a good one; `sampler` with `start` makes x of it again.

    A step of DDIM leads from x_t to x' = α' x₀ + σ' ε, both said of x_t. Backwards x_t is
    α (x' − σ' ε)/α' + σ ε, where ε is said of x' in the place of x_t, as if it were the same (Song, Meng &
    Ermon 2021, Section 4.3; Dhariwal & Nichol 2021, Appendix F).

    Refined, ε is said of the x_t that was just found, again and again: a fixed point of that is the very x_t
    that the step leads to x' (Pan et al. 2023, "Effective real image editing with accelerated iterative
    diffusion inversion"). It contracts where steps are small, by 1 − (σ'/α')/(σ/α) times the slope of σ ε
    in x; in more noise than signal by (σ/α)/(σ'/α') − 1 times that of α x₀, x₀ being asked in the place of ε.

    sampler:     the diffusion sampler that is inverted; its solver is taken to be `ddim`, which draws nothing
    x:           name of the condition that holds the samples
    refinements: further calls of the network in every step
    """

    kind: ClassVar[str] = "inversion"
    own: ClassVar[tuple[str, ...]] = ("refinements",)
    given: ClassVar[tuple[str, ...]] = ("x",)
    refusal: ClassVar[str] = "what is inverted is a diffusion sampler, not '{kind}'"
    x: str = "x"
    refinements: int = 0

    def __post_init__(self) -> None:
        if self.refinements < 0:
            raise CallError(f"refinements must not be negative, not {self.refinements}")
        if self.sampler.eta or self.sampler.churn:
            raise CallError("what is drawn on the way cannot be found again: set eta and churn to 0")

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        plan, x = self.sampler, conditions[self.x]
        times, levels = plan.process.times(plan.steps), plan.process.levels(plan.steps)
        ask = plan.predictor(graphs, noise, conditions)
        done, total = 0, self.evaluations()
        for i in reversed(range(plan.steps)):
            (a, s), (a_next, s_next) = levels[i], levels[i + 1]
            noisy = not a or (self.refinements and s * s_next > a * a_next)
            after = x
            for _ in range(1 + self.refinements):
                x0, eps = ask(x, times[i], levels[i])
                if noisy:
                    x = (s / s_next) * after + (a - a_next * s / s_next) * x0
                else:
                    x = (a / a_next) * after + (s - s_next * a / a_next) * eps
                done += plan.cost(times[i])
                if progress:
                    progress(done, total)
        return x * (1.0 / (plan.start_scale * plan.process.start_scale(plan.steps)))

    def override(self, **changes: Any) -> Self:
        """A copy with options of its own and of the diffusion sampler changed; raises CallError for one that
        neither has."""
        own = {name: changes.pop(name) for name in ("refinements",) if name in changes}
        inner = override_each((self.sampler,), changes, "neither an inversion nor its sampler")[0]
        assert isinstance(inner, Diffusion)
        return replace(Sampler.override(self, **own), sampler=inner)

    def parts(self) -> tuple[Sampler, ...]:
        return (self,)  # it makes no samples: what a part of one is asked for is not meant

    def evaluations(self) -> int:
        process = self.sampler.process
        return (1 + self.refinements) * sum(map(self.sampler.cost, process.times(self.sampler.steps)))
