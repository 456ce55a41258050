"""Stored levels as cells of a grid of integers on which a flow begins, and noise that fills them.

Dequantization by bits-back coding: where in its level's cell a value lies is popped, which gives back what
saying it will cost; the level follows from the integer. Values are normal by themselves where a flow begins,
and so they are within a cell: even in the units of the data.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.normal_grid import log_weights
from niwaki_runtime.codec.rounding import Rounding
from niwaki_runtime.codec.stack import Stack
from niwaki_runtime.codec.tables import FRACTION, frequencies

__all__ = ["LevelCells"]

_Tables = Callable[[np.ndarray, int], np.ndarray]

_EDGE = 8
"""Where the outermost cells end."""
_UNITS = 5
"""log₂ of the units of 1, within which the noise is even."""


class LevelCells:
    """An integer j stands for (j + ½)/2^grid.

    edges: between two levels, of every value `(levels − 1, size)`, rising
    grid:  bits behind the point of the integers
    """

    def __init__(self, edges: np.ndarray, grid: int, rounding: Rounding) -> None:
        inner = rounding(edges[None] * (1 << grid), first=0, stage=0)[0]
        first = np.full((1, edges.shape[1]), -_EDGE << grid)
        # Every level has a cell, however improbable it is.
        steps = np.arange(1, len(edges) + 1)[:, None]
        inner = np.maximum.accumulate(np.maximum(inner, first + 1) - steps, axis=0) + steps
        last = np.maximum(inner[-1:] + 1, _EDGE << grid)
        self._edges, self._grid = np.concatenate([first, inner, last]), grid
        self._unit = max(0, grid - _UNITS)

    def pop(self, stack: Stack, levels: np.ndarray) -> np.ndarray:
        """Levels `(m, size)` → integers in their cells."""
        low, count, groups, tables = self._parts(levels)
        group = np.zeros(len(low), np.int64)
        for n in np.unique(groups[groups > 1]):
            here = np.flatnonzero(groups == n)
            group[here] = stack.pop(tables(here, int(n)))
        start, size = _split(group, groups, count)
        return (low + start + stack.pop_sized(size)).reshape(levels.shape)

    def push(self, stack: Stack, found: np.ndarray) -> np.ndarray:
        """Undoes `pop`: integers `(m, size)` → their levels. Raises CodecError for such as lie in none."""
        if (found < self._edges[0]).any() or (found >= self._edges[-1]).any():
            raise CodecError("the coded block does not come out even")
        levels = self.levels(found)
        low, count, groups, tables = self._parts(levels)
        within = found.reshape(-1) - low
        # The group of a place: of the starts ⌊group · count / groups⌋ the last that is not beyond it.
        group = ((within + 1) * groups - 1) // count
        start, size = _split(group, groups, count)
        stack.push_sized(within - start, size)
        for n in reversed(np.unique(groups[groups > 1])):
            here = np.flatnonzero(groups == n)
            stack.push(group[here], tables(here, int(n)))
        return levels

    def levels(self, found: np.ndarray) -> np.ndarray:
        """Integers `(m, size)` → the levels in whose cells they lie."""
        return np.asarray((found[:, None] >= self._edges[None, 1:-1]).sum(1))

    def _parts(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, _Tables]:
        """Of each value: where its cell begins, how many integers it has, in how many groups of about even
        probability density they are, and the frequencies of these groups for some of them."""
        places = np.arange(self._edges.shape[1])[None].repeat(len(levels), 0)
        low = self._edges[levels, places].reshape(-1)
        count = self._edges[levels + 1, places].reshape(-1) - low
        groups = -(-count >> self._unit)

        def tables(here: np.ndarray, n: int) -> np.ndarray:
            start, size = _split(np.arange(n)[None], np.full((len(here), 1), n), count[here, None])
            middle = ((low[here, None] + start) << 1) + size  # twice, from the first edge to the last
            at = np.clip(middle << (FRACTION - 1) >> self._grid, -_EDGE << FRACTION, _EDGE << FRACTION)
            return frequencies(log_weights(at, np.zeros((1, 1), np.int64)))

        return low, count, groups, tables


def _split(group: np.ndarray, groups: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a group begins, and how many integers it has; no two differ by more than one."""
    start = group * count // groups
    return start, (group + 1) * count // groups - start
