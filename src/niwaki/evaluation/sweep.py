"""One blocked pass over the Gram matrix of two sets, in float32, whose decisions equal those of float64.

The Gram trick ‖x−y‖² = ‖x‖² + ‖y‖² − 2x·y is one matrix product per block, but in float32 it is wrong for
near duplicates (true 0.033, computed 0.044). Every block therefore comes with a bound on its error: a
comparison that falls inside the bound is made again from the float64 difference, and candidates for the
nearest are ranked by their lower bounds until no other pair can be nearer. Memory is bounded by the block,
not by the number of samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from niwaki.evaluation.arrays import exact_matmul

__all__ = ["Block", "Nearest", "Pairs", "Smallest"]

_PAD = 8
"""Candidates kept beyond the k that are asked for."""
_GATHER = 1 << 22
"""Values gathered at once for float64 differences."""


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

    def lower(self) -> Tensor:
        """No true squared distance is smaller than this."""
        return (self.d2 - self.error).clamp_(min=0.0)


@dataclass
class Nearest:
    """For each row: float64 squared distances to its k nearest columns, rising, and their indices, both (n,
    k)."""

    d2: Tensor
    index: Tensor


class Pairs:
    """All pairs of the rows of x with the rows of y (or of x with itself, without the pairs (i, i)).

    x, y:  float64 (n, d), (m, d)
    block: rows and columns of a block
    """

    def __init__(self, x: Tensor, y: Tensor | None = None, *, block: int = 2048) -> None:
        self.same = y is None
        self.x = x
        self.y = x if y is None else y
        self.block = block
        centre = self.x.mean(0)  # smaller norms, smaller rounding
        self._x32, self._x2 = self._prepare(self.x - centre)
        self._y32, self._y2 = (self._x32, self._x2) if self.same else self._prepare(self.y - centre)
        # |error| ≤ u·(4 + 4√d)·(‖x‖ + ‖y‖)²: inputs and sums rounded to u = 2⁻²⁴, products accumulated over d
        # terms with the probabilistic bound λ√d·u, λ = 4 (Higham & Mary, "A new approach to probabilistic
        # rounding error analysis", 2019).
        self._unit = 2.0**-24 * (4.0 + 4.0 * math.sqrt(x.shape[1]))

    @staticmethod
    def _prepare(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.to(torch.float32), x.square().sum(1)

    def blocks(self) -> Iterator[Block]:
        """Every block once; of the symmetric matrix only those on and above the diagonal, whose own pairs are
        ∞."""
        step = self.block
        with exact_matmul():
            for i in range(0, len(self.x), step):
                for j in range(i if self.same else 0, len(self.y), step):
                    rows, columns = slice(i, min(i + step, len(self.x))), slice(j, min(j + step, len(self.y)))
                    x2, y2 = self._x2[rows].float()[:, None], self._y2[columns].float()[None, :]
                    d2 = torch.addmm(x2 + y2, self._x32[rows], self._y32[columns].T, alpha=-2.0)
                    error = x2.sqrt() + y2.sqrt()
                    error = error.square_().mul_(self._unit)
                    if self.same and i == j:
                        d2.fill_diagonal_(math.inf)
                    yield Block(rows, columns, d2, error)

    def exact(self, i: Tensor, j: Tensor) -> Tensor:
        """Float64 squared distances of the pairs (i, j), from the differences."""
        out = torch.empty(len(i), dtype=torch.float64, device=self.x.device)
        step = max(1, _GATHER // self.x.shape[1])
        for at in range(0, len(i), step):
            part = slice(at, at + step)
            out[part] = (self.x[i[part]] - self.y[j[part]]).square_().sum(1)
        return out

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

    def nearest(self, k: int) -> Nearest:
        """The k nearest columns of every row (k < n where the set is compared with itself)."""
        best = Smallest(len(self.x), len(self.y) - self.same, k, self.x.device)
        for block in self.blocks():
            lower = block.lower()
            best.add(lower, block.rows, block.columns)
            if self.same and block.rows != block.columns:
                best.add(lower.T, block.columns, block.rows)
        return best.finish(self)


class Smallest:
    """The k smallest squared distances of every row, seen block by block: candidates by lower bound, then
    exact.

    n, available: rows, and columns that each may choose from
    transposed:   rows of this object are columns of the pairs
    """

    def __init__(
        self, n: int, available: int, k: int, device: torch.device, *, transposed: bool = False
    ) -> None:
        self.k = min(k, available)
        self.transposed = transposed
        self.complete = available <= self.k + _PAD  # every column is a candidate: nothing can be missed
        keep = min(available, self.k + _PAD)
        self.lower = torch.full((n, keep), math.inf, device=device)
        self.index = torch.zeros((n, keep), dtype=torch.int64, device=device)

    def add(self, lower: Tensor, rows: slice, columns: slice) -> None:
        """Lower bounds of the squared distances between `rows` of this object and `columns`."""
        keep = self.lower.shape[1]
        value, index = torch.topk(lower, min(keep, lower.shape[1]), dim=1, largest=False, sorted=False)
        value = torch.cat([self.lower[rows], value], 1)
        index = torch.cat([self.index[rows], index + columns.start], 1)
        self.lower[rows], order = torch.topk(value, keep, dim=1, largest=False)
        self.index[rows] = index.gather(1, order)

    def finish(self, pairs: Pairs) -> Nearest:
        """Exact distances of the candidates, sorted; a row whose k-th may be beaten by an unseen pair is done
        in full."""
        n, keep = self.lower.shape
        row = torch.arange(n, device=self.index.device)
        d2 = self._exact(pairs, row.repeat_interleave(keep), self.index.flatten()).view(n, keep)
        d2[~self.lower.isfinite()] = math.inf
        order = self.index.argsort(dim=1)  # equal distances: the smallest index first
        d2, index = d2.gather(1, order), self.index.gather(1, order)
        d2, order = d2.sort(dim=1, stable=True)
        index = index.gather(1, order)
        if not self.complete:
            for i in (d2[:, self.k - 1] > self.lower[:, -1].double()).nonzero()[:, 0].tolist():
                other = pairs.x if self.transposed else pairs.y
                columns = torch.arange(len(other), device=row.device)
                if pairs.same:
                    columns = columns[columns != i]
                true, order = self._exact(pairs, row[i].expand(len(columns)), columns).sort(stable=True)
                d2[i], index[i] = true[:keep], columns[order[:keep]]
        return Nearest(d2[:, : self.k].contiguous(), index[:, : self.k].contiguous())

    def _exact(self, pairs: Pairs, row: Tensor, column: Tensor) -> Tensor:
        return pairs.exact(column, row) if self.transposed else pairs.exact(row, column)
