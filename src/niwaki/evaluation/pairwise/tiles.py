"""Squared distances of two sets, tile by tile, in float32 and with a bound that costs nothing.

The Gram trick ‖x−y‖² = ‖x‖² + ‖y‖² − 2x·y is one matrix product, but in float32 it is wrong for near
duplicates (true 0.033, computed 0.044). The bound on its error, c·(‖x‖ + ‖y‖)² ≤ 2c·‖x‖² + 2c·‖y‖², falls
apart into a share of each row and one of each column. Both shares and both norms ride along as two more
columns of the factors: [x, ‖x‖²−e, 1]·[−2y, 1, ‖y‖²−e], so that the product itself is a lower bound of the
squared distance, and the true one lies between it and it + 2e of the row + 2e of the column. Whoever needs
to know better asks for the float64 difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from niwaki.core.contract import CallError

__all__ = ["BLOCK", "Slab", "Tile", "Tiles", "centre", "norms"]

BLOCK = 1024
"""Rows and columns of a tile: 4 MB, which stays in the cache for the passes over it."""
_TALL = 4
"""Tiles above each other that share one conversion of their columns."""
_DIAGONAL = 256
"""Tiles on the diagonal of a symmetric matrix are computed twice; they are split down to this side."""
_GATHER = 1 << 16
"""Values gathered at once for float64 differences: more would leave the cache."""


@dataclass(frozen=True)
class Tile:
    """rows, columns: of the two sets; diagonal: of one set with itself, holding the pairs (i, i)."""

    rows: slice
    columns: slice
    diagonal: bool

    @property
    def pairs(self) -> int:
        return (self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start)


@dataclass(frozen=True)
class Slab:
    """Tiles above each other: some rows by one strip of columns."""

    rows: slice
    columns: slice
    tiles: tuple[Tile, ...]

    @property
    def pairs(self) -> int:
        return sum(t.pairs for t in self.tiles)


class Tiles:
    """All pairs of the rows of x with the rows of y (or of x with itself: each pair once, i ≠ j).

    x, y:  (n, d), (m, d), float32 or float64, held by reference
    block: side of a tile; memory beside the sets is a few (4·block × d) float32
    about: the centre and the squared norms of x and y about it, where they are known
    Distances inside are in units of `unit` = s², s a power of two that brings the largest norm to about 1, so
    that neither 1e-20 nor 1e20 leaves the range of float32.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor | None = None,
        *,
        block: int = BLOCK,
        about: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> None:
        if block < 1:
            raise CallError(f"a block needs at least one row, not {block}")
        self.same = y is None
        self.x, self.y = x, x if y is None else y
        self.block = block
        if about is None:
            about = (middle := centre(x), x2 := norms(x, middle), x2 if y is None else norms(y, middle))
        self._centre, x2, y2 = about
        largest = math.sqrt(max(float(x2.max()), float(y2.max())))
        if not math.isfinite(largest):
            raise CallError("the features are too large: their squared distances leave the range of float64")
        self._scale = 2.0 ** -math.floor(math.log2(largest)) if largest > 0 else 1.0
        self.unit = self._scale**2
        # |error| ≤ u·(4 + 4√d)·(‖x‖ + ‖y‖)²: inputs and sums rounded to u = 2⁻²⁴, products accumulated over d
        # terms with the probabilistic bound λ√d·u, λ = 4 (Higham & Mary, "A new approach to probabilistic
        # rounding error analysis", 2019).
        self._share = 2.0 * 2.0**-24 * (4.0 + 4.0 * math.sqrt(x.shape[1] + 2))
        self.x2 = x2 * self.unit  # squared norms about the centre, in units
        self.y2 = self.x2 if self.same else y2 * self.unit
        self.x_error = self.x2 * self._share
        self.y_error = self.x_error if self.same else self.y2 * self._share
        self._buffers: dict[str, Tensor] = {}

    def slabs(self) -> Iterator[Slab]:
        """All slabs, row by row; of the symmetric matrix what lies on and above the diagonal."""
        step, n, m = self.block, len(self.x), len(self.y)
        for top in range(0, n, _TALL * step):
            bottom = min(top + _TALL * step, n)
            for j in range(top if self.same else 0, m, step):
                right = min(j + step, m)
                tiles: list[Tile] = []
                for i in range(top, bottom, step):
                    rows, columns = slice(i, min(i + step, bottom)), slice(j, right)
                    if not self.same or i < j:
                        tiles.append(Tile(rows, columns, False))
                    elif i == j:
                        tiles.extend(_halved(i, right))
                yield Slab(slice(top, bottom), slice(j, right), tuple(tiles))

    def strips(self, slab: Slab, last: Slab | None) -> None:
        """Converts what the slab needs and the last one did not leave behind."""
        if last is None or last.rows != slab.rows:
            self._left = self._strip("left", self.x, self.x2 - self.x_error, slab.rows)
        self._right = self._strip("right", self.y, self.y2 - self.y_error, slab.columns)
        self._slab = slab

    def lower(self, tile: Tile) -> Tensor:
        """Lower bounds of the squared distances of the slab's tile, float32 (rows, columns): a buffer that
        the next call uses again. Pairs (i, i) are in it like any other."""
        left = self._left[tile.rows.start - self._slab.rows.start : tile.rows.stop - self._slab.rows.start]
        at = self._slab.columns.start
        right = self._right[tile.columns.start - at : tile.columns.stop - at]
        return torch.mm(left, right.T, out=self.buffer("lower", len(left), len(right)))

    def buffer(self, name: str, rows: int, columns: int) -> Tensor:
        """Float32 memory (rows, columns) that is used again under the same name: fresh pages cost more than
        what is written on them."""
        size = rows * columns
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers[name] = torch.empty(size, device=self.x.device)
        return self._buffers[name][:size].view(rows, columns)

    def drop(self) -> None:
        """Gives the memory of the tiles back."""
        self._buffers.clear()
        self._left = self._right = torch.empty(0)

    def _strip(self, side: str, x: Tensor, norm: Tensor, part: slice) -> Tensor:
        d = x.shape[1]
        out = self.buffer(side, part.stop - part.start, d + 2)
        factor = self._scale if side == "left" else -2.0 * self._scale
        if x.dtype == torch.float32 and 1e-30 < self._scale < 1e30:  # c·f − f·x, of both sides the negative
            torch.sub((self._centre * factor).float(), x[part], alpha=factor, out=out[:, :d])
        else:
            out[:, :d] = (self._centre - x[part].double()).mul_(factor)
        out[:, d + (side == "right")] = norm[part]
        out[:, d + (side == "left")] = 1.0
        return out

    def exact(self, i: Tensor, j: Tensor) -> Tensor:
        """Float64 squared distances of the pairs (i, j), from the differences, not in units."""
        out = torch.empty(len(i), dtype=torch.float64, device=self.x.device)
        step = max(2, _GATHER // self.x.shape[1])
        for at in range(0, len(i), step):
            part = slice(at, at + step)
            difference = self.x.index_select(0, i[part]).double().sub_(self.y.index_select(0, j[part]))
            out[part] = difference.square_().sum(1)
        return out

    def float64_rows(self, rows: Tensor, transposed: bool) -> tuple[Tensor, Tensor]:
        """Gram distances in float64 of a few rows (columns where transposed) to all of the other set, and the
        bound on their error, both in units and (rows, all)."""
        own, own2 = (self.y, self.y2) if transposed else (self.x, self.x2)
        other, other2 = (self.x, self.x2) if transposed else (self.y, self.y2)
        left = (own[rows].double() - self._centre).mul_(self._scale)
        d2 = torch.empty(len(rows), len(other), dtype=torch.float64, device=own.device)
        for j in range(0, len(other), self.block):
            right = (other[j : j + self.block].double() - self._centre).mul_(-2.0 * self._scale)
            d2[:, j : j + self.block] = left @ right.T
        d2 += own2[rows, None]
        d2 += other2
        share = self._share * 2.0**-28  # twice that of 2⁻⁵³
        return d2, (own2[rows, None] + other2).mul_(share)


def norms(x: Tensor, middle: Tensor | None = None) -> Tensor:
    """Squared norms (about the middle) `(n,)` float64, without a float64 copy of the whole."""
    out = torch.empty(len(x), dtype=torch.float64, device=x.device)
    step = max(1, _GATHER // x.shape[1])
    for at in range(0, len(x), step):
        wide = x[at : at + step].double()
        out[at : at + step] = (wide if middle is None else wide - middle).square().sum(1)
    return out


def centre(x: Tensor) -> Tensor:
    """The mean `(d,)`, which makes norms and their rounding small; rounded to float32, so that it is the same
    in both precisions."""
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    step = max(1, _GATHER // x.shape[1])
    for at in range(0, len(x), step):
        total += x[at : at + step].sum(0, dtype=torch.float64)
    total /= len(x)
    rounded = total.float().double()
    return rounded if bool(rounded.isfinite().all()) else total


def _halved(start: int, stop: int) -> Iterator[Tile]:
    """The square on the diagonal in halves: two small squares and what lies between them."""
    if stop - start <= _DIAGONAL:
        yield Tile(slice(start, stop), slice(start, stop), True)
        return
    middle = (start + stop) // 2
    yield from _halved(start, middle)
    yield Tile(slice(start, middle), slice(middle, stop), False)
    yield from _halved(middle, stop)
