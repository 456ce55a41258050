"""Enlarging: a diffusion sampler whose samples have given means of blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from niwaki_runtime.process import END
from niwaki_runtime.samplers.around import AroundDiffusion
from niwaki_runtime.samplers.base import Array, Noise, Runner, register
from niwaki_runtime.samplers.blocks import check_blocks, means_of, with_means

__all__ = ["Upscale"]


@register
@dataclass(frozen=True)
class Upscale(AroundDiffusion):
    """Samples whose means of `factor` × `factor` pixels are those of `known`, pictures of the samples' shape.

    After every step the means M x are replaced by those of α known + σ ε (Choi et al. 2021, "ILVR", Equation
    10, M being the filter). ε is the noise that sampling started from, so that means go straight from it to
    what is known: with a solver that draws nothing that is x₀ − M x₀ + M known inside the solver (Wang, Yu &
    Zhang 2023, "DDNM", Equation 13, where A is the average). At the end a block whose mean is too low is
    drawn to the upper bound until it is right, else to the lower one, so that values stay within `clip`.

    sampler: the diffusion sampler; the last two axes of its shape are multiples of the factor
    known:   name of the condition that holds the pictures
    factor:  side of the blocks
    """

    kind: ClassVar[str] = "upscale"
    own: ClassVar[tuple[str, ...]] = ("factor",)
    given: ClassVar[tuple[str, ...]] = ("known",)
    refusal: ClassVar[str] = "enlarging is done around a diffusion sampler, not around '{kind}'"
    known: str = "known"
    factor: int = 2

    def __post_init__(self) -> None:
        check_blocks(self.sampler.shape, self.factor)

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        xp, f = noise.backend.namespace(conditions[self.known]), self.factor
        start = noise.normal(self.sampler.shape)
        wanted, drift = means_of(xp, conditions[self.known], f, f), means_of(xp, start, f, f)

        def hold(x: Array, t: float, draw: int) -> Array:
            if project is not None:
                x = project(x, t, draw)
            if t == END:
                return with_means(xp, x, f, wanted, self.sampler.clip)
            a, s = self.sampler.level(t)
            return with_means(xp, x, f, a * wanted + s * drift, 0.0)

        return self.sampler(graphs, noise, conditions, project=hold, progress=progress)
