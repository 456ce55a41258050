"""How prompts lie before what is made: with the token that stands before the first one, or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import Array, Backend, Noise

if TYPE_CHECKING:
    from niwaki_runtime.samplers.autoregressive import Autoregressive

__all__ = ["ABSENT", "Layout", "lay_out"]

ABSENT = -1
"""What stands in a prompt where it has ended, and in a steered sample after its end."""


@dataclass
class Layout:
    """What the network reads, and is to read.

    read:    tokens `(n, columns)` int64, −1 where they are still to be made
    lengths: of the prompts `(n,)`
    led:     whether `first` stands before a sample `(n,)`
    length:  of a sample
    """

    read: np.ndarray
    lengths: np.ndarray
    led: np.ndarray
    length: int

    def common(self) -> int:
        """How many tokens to read at once: those that all samples have."""
        known = (self.read != ABSENT).all(axis=0)
        return min(len(known) if known.all() else int(known.argmin()), self.length)

    def samples(self) -> np.ndarray:
        """The samples `(n, length)` without what stands before them."""
        rows = self.led[:, None] + np.arange(self.length)
        return np.take_along_axis(self.read, rows, axis=1)

    def left(self, at: int) -> np.ndarray:
        """Tokens that a sample `(n,)` still has room for where column `at` is the next."""
        return np.asarray(self.length - (at - self.led))

    def begin(self, i: int) -> int:
        """The first column of sample i after its prompt."""
        return int(self.lengths[i]) + int(self.led[i])

    def prompt(self, i: int) -> list[int]:
        """The tokens that sample i begins with."""
        given: list[int] = self.read[i, int(self.led[i]) : self.begin(i)].tolist()
        return given

    def write(self, i: int, made: Sequence[int], rest: int = ABSENT) -> None:
        """What is made of sample i, as far as there is room, and what stands after its end."""
        row = self.read[i, self.begin(i) :]
        kept = made[: self.length - int(self.lengths[i])]
        row[:], row[: len(kept)] = rest, kept

    def uniform(self, noise: Noise, at: int, size: int = 1) -> np.ndarray:
        """The numbers `(n, size)` that choose column `at`: the same ones wherever `first` stands."""
        drawn = noise.uniform(size, draw=at - self.shifts[0])
        for before in self.shifts[1:]:
            fresh = noise.uniform(size, draw=at - before)
            drawn = np.where(self.led[:, None] == before, fresh, drawn)
        return drawn

    @cached_property
    def shifts(self) -> list[int]:
        """The values of `led` that occur: once, since a small network takes a tenth of a millisecond a
        step."""
        return [int(before) for before in np.unique(self.led)]


def lay_out(sampler: Autoregressive, conditions: Mapping[str, Array], backend: Backend, n: int) -> Layout:
    """`first` where it stands, then the prompts, then room. Raises CallError where a prompt has a gap."""
    length, given = sampler.length, np.empty((n, 0), dtype=np.int64)
    if sampler.prompt:
        given = np.asarray(backend.numpy(conditions[sampler.prompt]), dtype=np.int64)[:, :length]
    there = given != ABSENT
    if (there[:, 1:] & ~there[:, :-1]).any():
        raise CallError(f"a prompt must be filled up with {ABSENT} after its end, not before or inside it")
    lengths = there.sum(axis=1)
    led = ~(sampler.alone & (lengths > 0))
    read = np.full((n, length + 1), ABSENT, dtype=np.int64)
    read[:, 0] = sampler.first
    read[:, 1 : 1 + given.shape[1]] = given
    read[~led, :-1] = read[~led, 1:]
    return Layout(read if led.any() else read[:, :-1], lengths, led, length)
