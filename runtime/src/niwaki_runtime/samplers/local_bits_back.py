"""How many bits a sample of stored levels takes by a flow, and what a codec needs to know to write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, check_shape, register

__all__ = ["LocalBitsBack"]


@register
@dataclass(frozen=True)
class LocalBitsBack(Sampler):
    """Bits of x at one draw u of uniform noise in the cells of its levels: −log₂ p(x + step·(u − ½)) − log₂
    of the cell's size. Their mean over draws is what local bits-back coding spends (Ho, Lohn & Abbeel 2019,
    "Compression with Flows via Local Bits-Back Coding", arXiv:1905.08500).

    z of standard normals is made of x by layers that move values one by one, given those that stay:

    size:       values of a sample
    step:       distance of two levels
    cells:      graph x `(n, size)` → values, each by itself, and logarithms of the slopes, `(n, size)` each
    moves:      graphs, in order: (h, *conditions) → z and log dz/dh `(n, size)`
    backs:      their inverses: (z, *conditions) → h; empty for a layer that scales and shifts every value by
                constants, whose graph takes h alone
    moved:      for each layer which values it moves: the bits of a number, in hexadecimal digits, the first
                value the highest; those that stay must be the same in z, with a slope of 1
    conditions: names of the conditions, x first
    """

    kind: ClassVar[str] = "local_bits_back"
    size: int = 1
    step: float = 1.0
    cells: str = "cells"
    moves: tuple[str, ...] = ()
    backs: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ("x",)

    def __post_init__(self) -> None:
        check_shape((self.size,), "the sampler 'local_bits_back'")
        if not len(self.moves) == len(self.backs) == len(self.moved):
            raise CallError(
                f"the sampler 'local_bits_back' needs as many inverses and patterns as layers, not "
                f"{len(self.moves)}, {len(self.backs)} and {len(self.moved)}"
            )
        if not self.step > 0:
            raise CallError(f"the step of levels must be positive, not {self.step}")
        for i in range(len(self.moved)):
            self.places(i)

    def places(self, layer: int) -> np.ndarray:
        """Which values a layer moves: their numbers. Raises CallError where that is no pattern."""
        digits = self.moved[layer]
        try:
            bits = f"{int(digits, 16):0{self.size}b}"
        except ValueError as error:
            raise CallError(f"'{digits:.20}' says of no values whether a layer moves them") from error
        if len(bits) != self.size:
            raise CallError(f"'{digits:.20}' is a pattern of more than {self.size} values")
        return np.flatnonzero(np.frombuffer(bits.encode(), np.uint8) == ord("1"))

    @staticmethod
    def pattern(moved: np.ndarray) -> str:
        """`(size,)` truths as the digits of `moved`."""
        return f"{int(''.join('1' if m else '0' for m in moved), 2):x}"

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        x, *asked = (conditions[name] for name in self.conditions)
        xp = noise.backend.namespace(x)
        u = noise.backend.asarray((noise.uniform(self.size, stream="latent") - 0.5).astype(np.float32))
        h, slopes = graphs[self.cells](xp.reshape(x, (noise.n, self.size)) + self.step * u)
        nats = -xp.sum(slopes, axis=1) - self.size * math.log(self.step)
        for i, (move, back) in enumerate(zip(self.moves, self.backs, strict=True)):
            h, slopes = graphs[move](h, *(asked if back else ()))
            nats = nats - xp.sum(slopes, axis=1)
            if progress:
                progress(i + 2, self.evaluations())
        nats = nats + 0.5 * xp.sum(h * h, axis=1) + 0.5 * self.size * math.log(2.0 * math.pi)
        return nats / math.log(2.0)

    def graphs_used(self) -> tuple[str, ...]:
        return (self.cells, *self.moves, *(back for back in self.backs if back))

    def evaluations(self) -> int:
        return len(self.moves) + 1
