"""Which batch sizes give the same samples, bit for bit: measured on this machine before anybody asks.

Engines choose other kernels for other shapes, so that a row may come out differently, in its last bits, in a
batch of another size. Batches are therefore filled up to one of a few sizes of which it was seen that they
agree: the same seed is then the same sample at any load.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Agreement", "agreement", "powers"]

Make = Callable[[Sequence[int], int], np.ndarray]
"""From numbers of samples and a batch size to their rows."""


@dataclass(frozen=True)
class Agreement:
    """
    sizes:  batch sizes that give the same rows, rising
    single: whether a sample that is made alone is among them
    tried:  all sizes that were tried
    """

    sizes: tuple[int, ...] = (1,)
    single: bool = True
    tried: tuple[int, ...] = (1,)

    @property
    def most(self) -> int:
        return self.sizes[-1]

    def size_for(self, n: int) -> int:
        """The smallest size that holds n samples."""
        return next(size for size in self.sizes if size >= n)


def powers(most: int) -> tuple[int, ...]:
    """1, 2, 4 … and `most` itself.

    >>> powers(12)
    (1, 2, 4, 8, 12)
    """
    return tuple(sorted({*(1 << k for k in range(most.bit_length()) if 1 << k <= most), most}))


def agreement(make: Make, most: int, seconds: float) -> Agreement:
    """The sizes up to `most` that agree, of which there are most; of equally many, those with size 1.

    Each size makes its samples in their order and reversed: a size where a row depends on its place is left
    out. `seconds` bound it: sizes whose trial would not fit, by the time of the first sample, are not used.
    """
    began = time.monotonic()
    make([0], 1)  # what is prepared at the first call is not to be measured
    one = time.monotonic()
    rows = [make([0], 1)]
    each = time.monotonic() - one
    sizes = [size for size in powers(most) if size == 1 or each * 4 * size <= seconds - (one - began)]
    rows += [make([i], 1) for i in range(1, sizes[-1])]
    single = np.concatenate(rows)
    kinds: list[tuple[list[int], np.ndarray]] = [([1], single)]
    for size in sizes[1:]:
        numbers = list(range(size))
        made, turned = make(numbers, size), make(numbers[::-1], size)[::-1]
        if _same(made, turned):
            _enter(kinds, size, made)
    chosen, _ = max(kinds, key=lambda kind: (len(kind[0]), 1 in kind[0], kind[0][-1]))
    return Agreement(tuple(chosen), 1 in chosen, tuple(sizes))


def _enter(kinds: list[tuple[list[int], np.ndarray]], size: int, made: np.ndarray) -> None:
    """Beside the sizes that it agrees with, as far as both made the same samples, or as one of its own."""
    for i, (sizes, rows) in enumerate(kinds):
        n = min(len(rows), len(made))
        if _same(rows[:n], made[:n]):
            kinds[i] = ([*sizes, size], rows if len(rows) >= len(made) else made)
            return
    kinds.append(([size], made))


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Bit for bit: two NaN are the same, 0 and −0 are not."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
