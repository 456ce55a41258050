"""Several processes on one sweep: each does its share of the slabs, then their results are joined.

Only where torch.distributed is initialised; without it, or with one process, everything here does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from niwaki.core.contract import CallError

__all__ = ["ALONE", "Ranks", "ranks"]


@dataclass(frozen=True)
class Ranks:
    """rank: this process, 0 … size − 1."""

    rank: int
    size: int

    def mine(self, index: int) -> bool:
        """Whether this process does the piece of work with that number."""
        return index % self.size == self.rank

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, in place."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def all_reduce_min(self, values: Tensor) -> Tensor:
        """The smallest of the processes, in place."""
        return self._reduce(values, dist.ReduceOp.MIN)

    def all_gather(self, values: Tensor) -> Tensor:
        """The columns of all processes beside each other: (n, w) → (n, size·w)."""
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts, 1)

    def agree(self, values: Tensor) -> None:
        """Raises CallError where the processes do not hold the same numbers, float64 (n,)."""
        if self.size == 1:
            return
        low, high = self.all_reduce_min(values.clone()), -self.all_reduce_min(-values)
        if not torch.equal(low, high):
            raise CallError("every process must be given the same features; these differ between them")

    def _reduce(self, values: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        if self.size > 1:
            dist.all_reduce(values, how)
        return values


ALONE = Ranks(0, 1)


def ranks() -> Ranks:
    """The processes of torch.distributed, or this one alone."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return ALONE
