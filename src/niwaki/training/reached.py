"""What generated samples reach of the training data: classes, clusters, and how far apart they lie. Pure
functions of rows of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Reached", "apart", "kinds_reached", "nearest_kind", "rows_of"]

WIDTH = 256
"""Numbers in a row at most: wider samples are projected, which keeps distances to about 6 % (Johnson &
Lindenstrauss 1984)."""
NEIGHBOURS = 5
LEAST = 0.1
"""A kind is reached where it has at least this share of the samples that it should have: a few strays that
were taken for it are not it."""


@dataclass(frozen=True)
class Reached:
    """How many kinds (classes, clusters) samples reach, of how many that as many real ones do; `missing` are
    the numbers of those that they do not."""

    count: int
    of: int
    missing: tuple[int, ...] = ()

    @property
    def share(self) -> float:
        return self.count / self.of if self.of else 1.0


def rows_of(x: Tensor, seed: int = 0) -> Tensor:
    """Samples `(n, *shape)` → rows `(n, at most WIDTH)` float32 on the host."""
    rows = x.detach().flatten(1).float().cpu()
    if rows.shape[1] <= WIDTH:
        return rows
    rng = torch.Generator().manual_seed(seed)
    return rows @ torch.randn(rows.shape[1], WIDTH, generator=rng).div_(WIDTH**0.5)


def nearest_kind(rows: Tensor, known: Tensor, kinds: Tensor, *, itself: bool = False) -> Tensor:
    """The kind of each row by a vote of its nearest known rows `(n,)`; of a tie the lowest number.

    itself: the rows are the known ones, and none has a say about itself
    """
    distance = torch.cdist(rows, known)
    if itself:
        distance.fill_diagonal_(float("inf"))
    near = distance.topk(min(NEIGHBOURS, len(known) - itself), largest=False).indices
    votes = torch.nn.functional.one_hot(kinds[near], int(kinds.max()) + 1).sum(1)
    return votes.argmax(1)


def kinds_reached(made: Tensor, real: Tensor, shares: Tensor) -> Reached:
    """
    made, real: kinds of generated samples and of real ones in their place, `(n,)` each
    shares:     of each kind in the training data `(kinds,)`
    """
    counts = [torch.bincount(of, minlength=len(shares)) for of in (made, real)]
    reached = [
        count >= (LEAST * shares * len(of)).clamp(min=1)
        for count, of in zip(counts, (made, real), strict=True)
    ]
    should = reached[1]
    missing = torch.nonzero(should & ~reached[0]).flatten().tolist()
    return Reached(int(should.sum()) - len(missing), int(should.sum()), tuple(missing))


def apart(rows: Tensor) -> Mapping[str, float]:
    """`nearest`: the median distance of a row to the nearest other one; `spread`: the root of the mean
    squared distance of two rows."""
    distance = torch.cdist(rows, rows)
    square = distance.square().sum() / (len(rows) * (len(rows) - 1))
    near = distance.fill_diagonal_(float("inf")).amin(1)
    return {"nearest": float(near.median()), "spread": float(square.sqrt())}
