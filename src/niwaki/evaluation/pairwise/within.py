"""Which pairs lie inside the balls of one set: counts on both sides, decided as float64 would."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from niwaki.evaluation.pairwise.ranks import Ranks
from niwaki.evaluation.pairwise.tiles import Tiles

__all__ = ["Within"]

_CHUNK = 1 << 20
"""Pairs worked on at once."""


class Within:
    """Counts the pairs with distance < radius (≤ where not strict) of the balls around one set.

    radius2: squared radii, float64 (own,); smaller2: squared radii ≤ radius2 that are counted as well
    of_y:    the balls lie around y, the columns of the tiles
    Filled by the sweep: inside (own,): others in each ball · around (others,): balls around each other one ·
    around_smaller (others,): of the smaller balls · least2 (others,): smallest squared radius around it, ∞
    outside of all.
    """

    weight32 = None

    def __init__(
        self,
        tiles: Tiles,
        radius2: Tensor,
        *,
        strict: bool,
        of_y: bool = False,
        smaller2: Tensor | None = None,
    ) -> None:
        self.tiles, self.strict, self.of_y = tiles, strict, of_y
        self.radius2, self.smaller2 = radius2, smaller2
        limit = (radius2 * tiles.unit).float()
        self.limit = torch.nextafter(limit, torch.full((), math.inf, device=limit.device))
        self._error, self._other_error = (
            (tiles.y_error, tiles.x_error) if of_y else (tiles.x_error, tiles.y_error)
        )
        others = len(self._other_error)
        self.inside = torch.zeros(len(radius2), dtype=torch.int64, device=limit.device)
        self.around = torch.zeros(others, dtype=torch.int64, device=limit.device)
        self.around_smaller = torch.zeros_like(self.around)
        self.least2 = torch.full((others,), math.inf, dtype=torch.float64, device=limit.device)

    def seed(self, values: Tensor, rows: slice, others: slice) -> None:
        """The limit is known from the start."""

    def take(self, row: Tensor, other: Tensor, lower: Tensor) -> None:
        """Candidates: pairs with their lower bounds."""
        for at in range(0, len(row), _CHUNK):
            part = slice(at, at + _CHUNK)
            self._take(row[part], other[part], lower[part])

    def _take(self, row: Tensor, other: Tensor, lower: Tensor) -> None:
        keep = (lower < self.limit[row]).nonzero()[:, 0]
        row, other, low = row[keep], other[keep], lower[keep].double()
        high = low + 2.0 * (self._error[row] + self._other_error[other])
        hit = self._decide(row, other, low, high, self.radius2[row]).nonzero()[:, 0]
        row, other, low, high = row[hit], other[hit], low[hit], high[hit]
        self.inside += torch.bincount(row, minlength=len(self.inside))
        self.around += torch.bincount(other, minlength=len(self.around))
        self.least2.scatter_reduce_(0, other, self.radius2[row], "amin")
        if self.smaller2 is not None:
            hit = self._decide(row, other, low, high, self.smaller2[row])
            self.around_smaller += torch.bincount(other[hit], minlength=len(self.around))

    def _decide(self, row: Tensor, other: Tensor, low: Tensor, high: Tensor, radius2: Tensor) -> Tensor:
        bound = radius2 * self.tiles.unit
        hit = high < bound
        doubt = (~hit & (low <= bound)).nonzero()[:, 0]
        if len(doubt):
            x, y = (other, row) if self.of_y else (row, other)
            true = self.tiles.exact(x[doubt], y[doubt])
            hit[doubt] = true < radius2[doubt] if self.strict else true <= radius2[doubt]
        return hit

    def join(self, ranks: Ranks) -> None:
        """Adds up what the processes found."""
        for counts in (self.inside, self.around, self.around_smaller):
            ranks.all_reduce_sum(counts)
        ranks.all_reduce_min(self.least2)
