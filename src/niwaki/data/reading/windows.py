"""Windows of a series: rows that follow each other, within a block of time and between two gaps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Windows", "averaged", "blocks", "carried_on", "cut"]


@dataclass(frozen=True)
class Windows:
    """How windows are cut.

    length: steps of one
    stride: steps between the beginnings of two
    every:  rows that are averaged into one step
    """

    length: int
    stride: int = 1
    every: int = 1


def blocks(steps: int, fractions: Sequence[float]) -> list[tuple[int, int]]:
    """First and last step + 1 of the blocks of train, validation and test, in this order of time."""
    edges = [0, *(round(steps * share) for share in np.cumsum(fractions)[:-1]), steps]
    return list(itertools.pairwise(edges))


def cut(
    table: np.ndarray, begin: int, end: int, windows: Windows, *, trains: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """First row and values `(length, columns)` of the windows within rows begin … end−1.

    Where `every` rows are averaged into one step, training windows begin at each of them: the same time in
    other averages.
    """
    every = windows.every
    for offset in range(every if trains else 1):
        rows = averaged(table[begin + offset : end], every)
        for start in range(0, len(rows) - windows.length + 1, windows.stride):
            yield begin + offset + start * every, rows[start : start + windows.length]


def averaged(rows: np.ndarray, every: int) -> np.ndarray:
    """Every so many rows as their mean, of what is known; NaN where none of them is."""
    if every == 1:
        return rows
    parts = rows[: len(rows) // every * every].reshape(-1, every, rows.shape[1])
    known = np.isfinite(parts)
    count = known.sum(1)
    mean = np.where(known, parts, 0.0).sum(1) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def carried_on(window: np.ndarray) -> np.ndarray:
    """`(steps, columns)` without NaN: the last known value goes on, before the first one it stands already;
    0 where a column knows none."""
    known = np.isfinite(window)
    at = np.where(known, np.arange(len(window))[:, None], -1)
    last = np.maximum.accumulate(at, 0)
    first = np.where(known.any(0), known.argmax(0), 0)
    from_row = np.where(last >= 0, last, first)
    return np.nan_to_num(np.take_along_axis(window, from_row, 0), nan=0.0, posinf=0.0, neginf=0.0)
