"""Given samples made anew from a noised state: a diffusion sampler that begins on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.around import AroundDiffusion
from niwaki_runtime.samplers.base import Array, Noise, Runner, register

__all__ = ["Renoise"]


@register
@dataclass(frozen=True)
class Renoise(AroundDiffusion):
    """Noise is added to x up to a time, α x + σ ε, and the sampler takes its steps from there on (Meng et al.
    2022, "SDEdit", Algorithm 1).

    sampler:  the diffusion sampler
    x:        name of the condition that holds the samples
    strength: share of the sampler's steps that are taken, at least one: little of x changes near 0, and at 1
              nothing of it is left but what the noisiest level leaves
    """

    kind: ClassVar[str] = "renoise"
    own: ClassVar[tuple[str, ...]] = ("strength",)
    given: ClassVar[tuple[str, ...]] = ("x",)
    refusal: ClassVar[str] = "only a diffusion sampler begins on the way, and '{kind}' is none"
    x: str = "x"
    strength: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.strength <= 1.0:
            raise CallError(f"the strength lies above 0 and is at most 1, not {self.strength}")

    @property
    def first(self) -> int:
        """The step of the sampler that comes first."""
        return self.sampler.steps - max(1, math.ceil(self.strength * self.sampler.steps - 1e-9))

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        plan = self.sampler
        a, s = plan.process.levels(plan.steps)[self.first]
        start = a * conditions[self.x] + (s * plan.start_scale) * noise.normal(plan.shape)
        return plan.steps_from(
            self.first, start, graphs, noise, conditions, project=project, progress=progress
        )

    def evaluations(self) -> int:
        return self.sampler.evaluations(self.first)
