"""Super-resolution: a diffusion sampler that is given small pictures with noise, and told its level."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.around import AroundDiffusion
from niwaki_runtime.samplers.base import Array, Noise, Runner, check_shape, register

__all__ = ["NoiseConditioned"]


@register
@dataclass(frozen=True)
class NoiseConditioned(AroundDiffusion):
    """The denoiser sees √(1 − s²) y + s ε in the place of small pictures y, and is told s: noise conditioning
    augmentation (Ho et al. 2022, "Cascaded diffusion models", Section 4.2). What the noise hides of y the
    denoiser finds anew, faults of the model that made y among it.

    sampler:      the diffusion sampler; among its conditions are `low` and `level`
    known:        name of the condition that holds small pictures, or pictures of the samples' size, of which
                  the means of blocks are taken
    low, level:   names by which the denoiser is given the noised pictures and the level `(n,)`
    small:        shape of the small pictures `(C, h, w)`
    augmentation: s, 0 … 1
    factor:       how often a side of the small pictures goes into that of the samples; no other can be asked
                  for
    """

    kind: ClassVar[str] = "noise_conditioned"
    own: ClassVar[tuple[str, ...]] = ("augmentation", "factor")
    given: ClassVar[tuple[str, ...]] = ("known",)
    refusal: ClassVar[str] = "small pictures are given to a diffusion sampler, not to '{kind}'"
    known: str = "low"
    low: str = "low"
    level: str = "level"
    small: tuple[int, ...] = (1, 1, 1)
    augmentation: float = 0.0
    factor: int = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.augmentation <= 1.0:
            raise CallError(f"'augmentation' is a level of noise, 0 … 1, not {self.augmentation}")
        object.__setattr__(self, "small", tuple(self.small))
        check_shape(self.small, "the sampler 'noise_conditioned'")
        *_, height, width = (1, 1, *self.sampler.shape)
        if len(self.small) != 3 or [self.factor * side for side in self.small[1:]] != [height, width]:
            raise CallError(
                f"small pictures {self.small} become samples of {width}×{height} pixels here; {self.factor} "
                "is not how often their sides go into those"
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
        low, s = self._small(conditions[self.known], noise), self.augmentation
        if s:
            low = math.sqrt(1.0 - s * s) * low + s * noise.normal(self.small, stream="condition")
        level = noise.backend.asarray(np.full(noise.n, s, dtype=np.float32))
        given = {**conditions, self.low: low, self.level: level}
        return self.sampler(graphs, noise, given, project=project, progress=progress)

    def _small(self, y: Array, noise: Noise) -> Array:
        if tuple(y.shape[1:]) == self.small:
            return y
        channels, height, width = self.small
        blocks = y.reshape(y.shape[0], channels, height, self.factor, width, self.factor)
        return noise.backend.namespace(y).mean(blocks, axis=(3, 5))

    def conditions_used(self) -> tuple[str, ...]:
        inner = (c for c in self.sampler.conditions_used() if c not in (self.low, self.level))
        return (self.known, *inner)
