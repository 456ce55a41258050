"""Balanced sampling: every class is drawn equally often, however rare it is in the data.

A rare class's samples come round more often, each of them once before any comes again. What a model learns is
then the data with equal classes; splits, and what results are judged against, stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from niwaki.data import Feeder, Split
from niwaki.data.feeder import permutation
from niwaki_runtime.errors import CallError, nearest

__all__ = ["BalancedFeeder"]

STREAM = 2**13
"""Number of the random stream of the order of classes; that of class c is STREAM + 1 + c."""
_KEPT = 256


class BalancedFeeder(Feeder):
    """A feeder in whose stream every C positions hold each of the C classes once, in an order of their own.

    by: a column of labels or an attribute, or several joined by `+`, whose meetings are then the classes
        (`class+font`); classes without a sample are left out
    Raises CallError for one that is neither.
    """

    def __init__(self, split: Split, batch_size: int, by: str, **options: Any) -> None:
        super().__init__(split, batch_size, **options)
        y = _labels(split, by)
        self.rows = [(y == label).nonzero().flatten() for label in y.unique()]
        if len(self.rows) >= STREAM - 1:
            raise CallError(f"train.balance: '{by}' has {len(self.rows)} classes, more than {STREAM - 2}")
        self._orders: dict[tuple[int, int], Tensor] = {}  # memory of pure results

    def _order(self, n: int, stream: int, epoch: int) -> Tensor:
        key = (stream, epoch)
        if key not in self._orders:
            while len(self._orders) >= _KEPT:
                self._orders.pop(next(iter(self._orders)))
            self._orders[key] = torch.from_numpy(permutation(n, self.seed, epoch, stream))
        return self._orders[key]

    def index(self, k: int) -> Tensor:
        first, classes = self._start(k), len(self.rows)
        found = []
        for position in range(first, first + self.batch_size):
            block, place = divmod(position, classes)
            label = int(self._order(classes, STREAM, block)[place])
            rows = self.rows[label]
            epoch, at = divmod(block, len(rows))  # each block holds the class once
            found.append(rows[self._order(len(rows), STREAM + 1 + label, epoch)[at]])
        return torch.stack(found).to(self.split.x.device)


def _labels(split: Split, by: str) -> Tensor:
    """The class of each sample, or which classes meet in it: (n,) int64."""
    columns = {
        n: c.data for n, c in split.columns.items() if c.spec.is_tokens and not c.spec.shape and c.paired
    }
    known, joined = {**split.attributes, **columns}, torch.zeros(len(split), dtype=torch.int64)
    for name in by.split("+"):
        if name not in known:
            raise CallError(f"train.balance: '{name}' is no column of labels; {nearest(name, known)}")
        values = known[name].cpu().long()
        joined = joined * (int(values.max()) + 1) + values
    return joined
