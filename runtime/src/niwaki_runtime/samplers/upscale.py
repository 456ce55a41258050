"""Enlarging: a diffusion sampler whose samples have given means of blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import END
from niwaki_runtime.samplers.around import AroundDiffusion
from niwaki_runtime.samplers.base import Array, Noise, Runner, register

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
        *_, height, width = (1, 1, *self.sampler.shape)
        if self.factor < 1 or height % self.factor or width % self.factor:
            raise CallError(
                f"samples of {width}×{height} pixels do not fall into blocks of {self.factor}×{self.factor}"
            )

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        xp, bound = noise.backend.namespace(conditions[self.known]), self.sampler.clip
        start = noise.normal(self.sampler.shape)
        wanted, drift = self._means(xp, conditions[self.known]), self._means(xp, start)

        def hold(x: Array, t: float, draw: int) -> Array:
            if project is not None:
                x = project(x, t, draw)
            if t != END:
                a, s = self.sampler.level(t)
                return self._spread(x, lambda v: v - xp.mean(v, axis=(-3, -1), keepdims=True)
                                    + (a * wanted + s * drift))  # fmt: skip
            if bound <= 0.0:
                return self._spread(x, lambda v: v - xp.mean(v, axis=(-3, -1), keepdims=True) + wanted)
            return self._spread(x.clip(-bound, bound), lambda v: _drawn(xp, v, wanted, bound))

        return self.sampler(graphs, noise, conditions, project=hold, progress=progress)

    def _blocks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        *before, height, width = shape
        f = self.factor
        return (*before, height // f, f, width // f, f)

    def _means(self, xp: Any, x: Array) -> Array:
        """`(…, H/f, 1, W/f, 1)`"""
        return xp.mean(x.reshape(self._blocks(tuple(x.shape))), axis=(-3, -1), keepdims=True)

    def _spread(self, x: Array, change: Callable[[Array], Array]) -> Array:
        """x with a change of its blocks `(…, H/f, f, W/f, f)`."""
        shape = tuple(x.shape)
        return change(x.reshape(self._blocks(shape))).reshape(shape)


def _drawn(xp: Any, x: Array, wanted: Array, bound: float) -> Array:
    """Blocks within ±bound whose means are `wanted`: b − (b − x)(b − wanted)/(b − M x) to the upper bound,
    likewise to the lower one."""
    mean = xp.mean(x, axis=(-3, -1), keepdims=True)
    # The other direction's factor is above 1: the lesser of both and 1 leaves that one where it is.
    up = ((bound - wanted) / (bound - mean).clip(1e-12, 2.0 * bound)).clip(0.0, 1.0)
    down = ((wanted + bound) / (mean + bound).clip(1e-12, 2.0 * bound)).clip(0.0, 1.0)
    return (-bound + (x + bound) * down + bound - (bound - x) * up) - x
