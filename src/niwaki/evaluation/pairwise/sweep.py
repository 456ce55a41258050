"""One blocked pass over the pairs of two sets, in float32, whose decisions equal those of float64.

Every tile of the Gram matrix is made once and looked at by all who need it. Those who look for small
distances (the k nearest, the inside of a ball) name a limit per row or per column; one comparison picks the
few pairs below it, and only these are handled one by one. Memory is bounded by the tile, not by the number
of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from niwaki.evaluation.pairwise.ranks import ALONE, Ranks
from niwaki.evaluation.pairwise.tiles import Tile, Tiles
from niwaki.evaluation.pairwise.topk import Nearest, Smallest
from niwaki.evaluation.statistics.arrays import exact_matmul

__all__ = ["Block", "Nearest", "Pairs", "Seeker", "Summer", "sweep"]

_GROUP = 64
"""Neighbouring values of which the smallest is looked at first."""


class Seeker(Protocol):
    """Looks for pairs of its own set (rows) with the others whose distance is below a limit of its own."""

    limit: Tensor

    @property
    def weight32(self) -> Tensor | None: ...

    def seed(self, values: Tensor, rows: slice, others: slice) -> None: ...

    def take(self, row: Tensor, other: Tensor, lower: Tensor) -> None: ...


class Summer(Protocol):
    """Uses every pair of a tile."""

    def add(self, tile: Tile, lower: Tensor) -> None: ...


def sweep(
    tiles: Tiles,
    rows: Sequence[Seeker],
    columns: Sequence[Seeker] = (),
    sums: Sequence[Summer] = (),
    *,
    ranks: Ranks = ALONE,
    report: Callable[[int], None] | None = None,
) -> None:
    """Shows every tile to all. Of one set with itself, `rows` see each pair from both sides.

    rows:    seekers whose own set is x; columns: whose own set is y (theirs may be weighted)
    report:  called with the pairs of each slab that is done
    """
    last = None
    with exact_matmul():
        for number, slab in enumerate(tiles.slabs()):
            if not ranks.mine(number):
                continue
            tiles.strips(slab, last)
            last = slab
            found: list[tuple[Sequence[Seeker], list[tuple[Tensor, ...]]]] = []
            plain = [s for s in columns if s.weight32 is None]
            for group in [rows, rows if tiles.same else plain] + [[s] for s in columns if s not in plain]:
                found.append((group, []))
            for tile in slab.tiles:
                lower = tiles.lower(tile)
                for each in sums:
                    each.add(tile, lower)
                if tile.diagonal:
                    lower.fill_diagonal_(torch.inf)
                _look(tiles, tile, lower, found)
            for group, parts in found:
                if parts:
                    row, other, value = (torch.cat(p) for p in zip(*parts, strict=True))
                    for seeker in group:
                        seeker.take(row, other, value)
            if report is not None:
                report(slab.pairs)


def _look(
    tiles: Tiles, tile: Tile, lower: Tensor, found: list[tuple[Sequence[Seeker], list[tuple[Tensor, ...]]]]
) -> None:
    """Adds the candidates of a tile to those found: by rows, by columns, and by weighted columns."""
    for at, (group, parts) in enumerate(found):
        across = at > 0
        if not group or (across and tile.diagonal):  # a diagonal tile holds both (i, j) and (j, i)
            continue
        own, other = (tile.columns, tile.rows) if across else (tile.rows, tile.columns)
        values = lower
        weight = group[0].weight32
        if weight is not None:
            w = weight[other, None]
            values = torch.mul(lower, w, out=tiles.buffer("weighted", *lower.shape))
            values.index_fill_(0, (w[:, 0] <= 0).nonzero()[:, 0], torch.inf)
        for seeker in group:
            seeker.seed(values.T if across else values, own, other)
        limit = group[0].limit[own]
        for seeker in group[1:]:
            limit = torch.maximum(limit, seeker.limit[own])
        i, j, value = _below(values.T if across else values, limit)
        if len(i):
            i, j = i + own.start, j + other.start
            parts.append((i, j, value))


def _below(values: Tensor, limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column and value of what is < limit of its row. The minima of groups are taken first, at the speed
    of memory: few groups hold any."""
    along = values.is_contiguous()
    group = _GROUP if along else _GROUP // 2  # a transposed matrix is read in the order of its memory
    whole = values.shape[1] // group * group
    parts = []
    if whole:
        if along:
            minima = values[:, :whole].unflatten(1, (-1, group)).amin(2)
        else:
            minima = values.T[:whole].unflatten(0, (-1, group)).amin(1).T
        row, at = (minima < limit[:, None]).nonzero(as_tuple=True)
        columns = at[:, None] * group + torch.arange(group, device=at.device)
        parts.append((row, columns, values[row[:, None], columns]))
    if whole < values.shape[1]:
        row = torch.arange(len(values), device=values.device)
        columns = torch.arange(whole, values.shape[1], device=values.device).expand(len(values), -1)
        parts.append((row, columns, values[:, whole:]))
    found = []
    for row, columns, some in parts:
        i, j = (some < limit[row, None]).nonzero(as_tuple=True)
        found.append((row[i], columns[i, j], some[i, j]))
    return found[0] if len(found) == 1 else tuple(torch.cat(p) for p in zip(*found, strict=True))  # type: ignore


@dataclass
class Block:
    """Squared distances of some rows and columns.

    rows, columns: what they are, as slices
    d2, error:     float32 squared distances and the bound on their error, both (rows, columns)
    """

    rows: slice
    columns: slice
    d2: Tensor
    error: Tensor


class Pairs(Tiles):
    """All pairs of the rows of x with the rows of y (or of x with itself, without the pairs (i, i))."""

    def nearest(self, k: int) -> Nearest:
        """The k nearest columns of every row (k < n where the set is compared with itself)."""
        best = Smallest(self, k)
        sweep(self, [best])
        return best.finish()

    def blocks(self) -> Iterator[Block]:
        """Every block once; of the symmetric matrix only those on and above the diagonal, whose own pairs are
        ∞."""
        last = None
        with exact_matmul():
            for slab in self.slabs():
                self.strips(slab, last)
                last = slab
                for tile in slab.tiles:
                    error = self.x_error[tile.rows, None] + self.y_error[tile.columns]
                    d2 = (self.lower(tile) + error.float()) / self.unit
                    if tile.diagonal:
                        d2.fill_diagonal_(torch.inf)
                    yield Block(tile.rows, tile.columns, d2, (error / self.unit).float())

    def inside(self, block: Block, radius2: Tensor, strict: bool) -> Tensor:
        """Which squared distances are < radius2 (≤ where not strict), decided as float64 would: bool (rows,
        columns).

        radius2: float64, (rows, 1) or (1, columns), or of the block's whole shape
        """
        limit = radius2.to(torch.float32)
        hit = block.d2 < limit
        doubt = (block.d2 - limit).abs_() <= block.error + limit.abs() * 2.0**-22
        i, j = doubt.nonzero(as_tuple=True)
        if len(i):
            true = self.exact(i + block.rows.start, j + block.columns.start)
            bound = radius2.expand(block.d2.shape)[i, j]
            answer = true < bound if strict else true <= bound
            if self.same:
                answer &= (i + block.rows.start) != (j + block.columns.start)
            hit[i, j] = answer
        return hit
