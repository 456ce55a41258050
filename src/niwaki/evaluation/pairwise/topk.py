"""The k smallest of every row over all tiles: a running limit per row, few candidates, exact in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from niwaki.evaluation.pairwise.ranks import ALONE, Ranks
from niwaki.evaluation.pairwise.tiles import Tiles

__all__ = ["Nearest", "Smallest"]

_PAD = 8
"""Candidates kept beyond the k that are asked for."""
_FULL = 1 << 21
"""Float64 distances held at once for the rows that are done again."""


@dataclass
class Nearest:
    """For each row: float64 squared distances to its k nearest, rising, and their indices, both (n, k)."""

    d2: Tensor
    index: Tensor


class Smallest:
    """The k smallest d² (or (d² + eps)·weight of the other one) of every row of one set.

    of_y:   the rows of this object are those of y, the columns of the tiles
    weight: float64 (others,), by which each other one's distance counts; 0 leaves it out
    """

    def __init__(
        self, tiles: Tiles, k: int, *, of_y: bool = False, weight: Tensor | None = None, eps: float = 0.0
    ) -> None:
        own, other = (tiles.y, tiles.x) if of_y else (tiles.x, tiles.y)
        self.tiles, self.of_y, self.eps = tiles, of_y, eps * tiles.unit
        self.weight = None if weight is None else weight / tiles.unit
        # Rounded down by more than its own rounding and that of the product, and below what would overflow.
        self.weight32 = (
            None if self.weight is None else (self.weight * (1.0 - 2.0**-21)).clamp(max=1e30).float()
        )
        self.unit = tiles.unit if weight is None else 1.0
        self._error, self._other_error = (
            (tiles.y_error, tiles.x_error) if of_y else (tiles.x_error, tiles.y_error)
        )
        available = len(other) - tiles.same if weight is None else int((weight > 0).sum())
        self.k = min(k, available)
        keep = min(self.k + _PAD, available)
        self.complete = available <= keep  # every other one is a candidate: nothing can be missed
        self.lower = torch.full((len(own), keep), math.inf, device=own.device)
        self.index = torch.zeros((len(own), keep), dtype=torch.int64, device=own.device)
        # No row's k-th smallest is larger than its limit.
        self.limit = torch.full((len(own),), math.inf if self.k else -math.inf, device=own.device)

    def seed(self, values: Tensor, rows: slice, others: slice) -> None:
        """A first limit from the smallest in each of a few groups of the (weighted) lower bounds (rows,
        others): k of them hold k different ones."""
        groups = min(4 * self.k, values.shape[1] // 4)
        if groups < max(1, self.k) or not bool(self.limit[rows].isinf().any()):
            return
        size = values.shape[1] // groups
        first, index = _group_minima(values, groups, size, self.weight is not None)
        row = torch.arange(rows.start, rows.stop, device=values.device)[:, None]
        if index is None:  # whichever it is, its share of the error is at most the largest
            other = self._other_error[others].argmax().view(1, 1) + others.start
        else:
            other = index + torch.arange(0, groups * size, size, device=index.device) + others.start
        limit = self._upper(first, row, other).kthvalue(self.k, dim=1).values
        self.limit[rows] = torch.minimum(self.limit[rows], _up(limit))

    def _upper(self, lower: Tensor, row: Tensor, other: Tensor) -> Tensor:
        """What the true value is at most, float64."""
        width = 2.0 * (self._error[row] + self._other_error[other])
        if self.weight is not None:
            width = (width + self.eps) * self.weight[other] + lower.double().abs() * 2.0**-20
        return lower.double() + width

    def take(self, row: Tensor, other: Tensor, lower: Tensor) -> None:
        """Candidates: pairs with their lower bounds."""
        keep = (lower < self.limit[row]).nonzero()[:, 0]
        if not len(keep):
            return
        row, other, lower = row[keep], other[keep], lower[keep]
        if bool((row[1:] < row[:-1]).any()):
            row, order = row.sort(stable=True)
            other, lower = other[order], lower[order]
        rows, where, counts = torch.unique_consecutive(row, return_inverse=True, return_counts=True)
        cap = self.lower.shape[1]
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[where] + cap
        values = torch.full((len(rows), cap + int(counts.max())), math.inf, device=row.device)
        values[:, :cap] = self.lower[rows]
        values[where, place] = lower
        indices = torch.zeros(values.shape, dtype=torch.int64, device=row.device)
        indices[:, :cap] = self.index[rows]
        indices[where, place] = other
        values, order = values.topk(cap, dim=1, largest=False)
        indices = indices.gather(1, order)
        self.lower[rows], self.index[rows] = values, indices
        limit = self._upper(values, rows[:, None], indices).kthvalue(self.k, dim=1).values
        self.limit[rows] = torch.minimum(self.limit[rows], _up(limit))

    def finish(self, ranks: Ranks = ALONE) -> Nearest:
        """Exact values of the candidates, sorted (equal ones by index); a row whose k-th may be beaten by one
        that was not kept is done again among all."""
        d2, index = self._finish(ranks, only_last=False)
        return Nearest(d2[:, : self.k].contiguous(), index[:, : self.k].contiguous())

    def kth(self, ranks: Ranks = ALONE) -> Tensor:
        """The k-th alone, float64 (n,): what is surely smaller is not worked out."""
        return self._finish(ranks, only_last=True)[0][:, self.k - 1].contiguous()

    def _finish(self, ranks: Ranks, *, only_last: bool) -> tuple[Tensor, Tensor]:
        n, cap = self.lower.shape
        lower, index = ranks.all_gather(self.lower), ranks.all_gather(self.index)
        d2 = torch.full((n, cap), math.inf, dtype=torch.float64, device=lower.device)
        if not self.k:
            return d2, index
        lower, order = lower.topk(cap, dim=1, largest=False)
        index = index.gather(1, order)
        upper = self._upper(lower, torch.arange(n, device=index.device)[:, None], index)
        limit = torch.minimum(ranks.all_reduce_min(self.limit), _up(upper.kthvalue(self.k, dim=1).values))
        open_ = (lower <= limit[:, None]) & lower.isfinite()
        if only_last:
            smaller = open_ & (upper < lower[:, self.k - 1, None])
            d2[smaller] = -math.inf
            open_ &= ~smaller
        d2[open_] = self._exact(open_.nonzero()[:, 0], index[open_], ranks)
        order = index.argsort(dim=1)
        d2, index = d2.gather(1, order), index.gather(1, order)
        d2, order = d2.sort(dim=1, stable=True)
        index = index.gather(1, order)
        if not self.complete:
            last = lower[:, -1].double().clamp_(min=0.0)
            beaten = (d2[:, self.k - 1] * self.unit > last * (1.0 - 2.0**-20)) & (last < limit)
            self._again(beaten.nonzero()[:, 0], d2, index, ranks)
        return d2, index

    def _again(self, rows: Tensor, d2: Tensor, index: Tensor, ranks: Ranks) -> None:
        """The rows in full: float64 Gram distances say who may be among the k nearest, the differences
        decide."""
        others = len(self.tiles.x if self.of_y else self.tiles.y)
        step = max(1, _FULL // others)
        for at in range(0, len(rows), step):
            part = rows[at : at + step]
            gram, error = self.tiles.float64_rows(part, self.of_y)
            if self.tiles.same:
                gram[torch.arange(len(part), device=part.device), part] = math.inf
            low, high = gram - error, gram + error
            if self.weight is not None:
                low, high = (
                    torch.where(self.weight > 0, (v + self.eps) * self.weight * r, math.inf)
                    for v, r in ((low, 1 - 2.0**-50), (high, 1 + 2.0**-50))
                )
            maybe = low <= high.kthvalue(self.k, dim=1).values[:, None]
            i, j = maybe.nonzero(as_tuple=True)
            gram.fill_(math.inf)
            gram[i, j] = self._exact(part[i], j, ranks)
            d2[part], order = (v[:, : d2.shape[1]] for v in gram.sort(dim=1, stable=True))
            index[part] = order

    def _exact(self, row: Tensor, other: Tensor, ranks: Ranks) -> Tensor:
        """Each process its share."""
        out = torch.zeros(len(row), dtype=torch.float64, device=row.device)
        share = slice(len(row) * ranks.rank // ranks.size, len(row) * (ranks.rank + 1) // ranks.size)
        x, y = (other, row) if self.of_y else (row, other)
        out[share] = self.tiles.exact(x[share], y[share])
        ranks.all_reduce_sum(out)
        if self.weight is not None:
            out = (out * self.tiles.unit + self.eps) * self.weight[other]
        return out


def _group_minima(values: Tensor, groups: int, size: int, where: bool) -> tuple[Tensor, Tensor | None]:
    """Smallest of each group of columns, (rows, groups), and if asked where in the group (which takes ten
    times as long). A transposed matrix is read in the order of its memory."""
    flat = values.is_contiguous()
    parts = values[:, : groups * size] if flat else values.T[: groups * size]
    parts = parts.unflatten(1 if flat else 0, (groups, size))
    if not where:
        minima = parts.amin(dim=2 if flat else 1)
        return (minima if flat else minima.T.contiguous()), None
    found = parts.min(dim=2 if flat else 1)
    return (found.values, found.indices) if flat else (found.values.T, found.indices.T)


def _up(limit: Tensor) -> Tensor:
    """Float64 to float32, never down."""
    return torch.nextafter(limit.float(), torch.full((), math.inf, device=limit.device))
