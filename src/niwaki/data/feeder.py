"""The endless shuffled stream of batches: a pure function of (seed, k), the same in a resumed run."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import Batch, CallError
from niwaki.data.dataset import Split

__all__ = ["Feeder", "permutation"]


def permutation(n: int, seed: int, epoch: int, stream: int = 0) -> np.ndarray:
    """The order of `n` samples in an epoch `(n,)` int64: the ranks of counter-based Philox words.

    Defined by the words and a stable sort alone, it is the same on every machine and in every version.
    """
    words = np.random.Philox(key=np.array([seed % 2**64, stream << 48 | epoch], dtype=np.uint64)).random_raw(
        n
    )
    return np.argsort(words, kind="stable")


class _Stream:
    """Positions 0, 1, 2 … of the concatenation of all epochs' permutations."""

    def __init__(self, n: int, seed: int, stream: int, device: torch.device) -> None:
        self.n, self.seed, self.stream, self.device = n, seed, stream, device
        self._epochs: dict[int, Tensor] = {}  # memory of pure results: the last few epochs

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            order = torch.from_numpy(permutation(self.n, self.seed, epoch, self.stream))
            while len(self._epochs) >= 2:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[epoch] = order.to(self.device)
        return self._epochs[epoch]

    def take(self, start: int, count: int) -> Tensor:
        parts = []
        while count:
            epoch, at = divmod(start, self.n)
            part = self._epoch(epoch)[at : at + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class Feeder:
    """Batches of a split, gathered on the device where the split lives.

    Batch k of rank r covers the positions [(k·world + r)·batch_size, … + batch_size) of the endless stream in
    which every sample comes once per epoch: ranks never share a position, no batch is cut short, and a batch
    may span two epochs. An unpaired column has a stream of its own, so that pairs are not learned.

    batch_size: samples per batch *and rank*
    offset:     added to every position; may be negative. With it a stage of another batch size goes on
                where the one before ended
    Raises CallError for an empty split or a rank outside the world.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        offset: int = 0,
    ) -> None:
        if not all(map(len, split.columns.values())):
            raise CallError("an empty split cannot be trained on")
        if batch_size < 1:
            raise CallError(f"a batch must hold at least one sample, not {batch_size}")
        if not 0 <= rank < world:
            raise CallError(f"the rank {rank} lies outside 0 … {world - 1}")
        self.split, self.batch_size, self.seed, self.rank, self.world = split, batch_size, seed, rank, world
        self.offset = offset
        self._a = _Stream(len(split), seed, 0, split.x.device)
        unpaired = sorted(name for name, column in split.columns.items() if not column.paired)
        self._unpaired = {
            name: _Stream(len(split.columns[name]), seed, 1 + k, split.x.device)
            for k, name in enumerate(unpaired)
        }

    def index(self, k: int) -> Tensor:
        """Positions in the split of the k-th batch `(batch_size,)` int64, k = 0, 1, 2 …"""
        return self._a.take(self._start(k), self.batch_size)

    def batch(self, k: int) -> Batch:
        """The k-th batch; asking again, or in another order, gives the same."""
        start = self._start(k)
        unpaired = {name: stream.take(start, self.batch_size) for name, stream in self._unpaired.items()}
        return self.split.batch(self.index(k), unpaired)

    def _start(self, k: int) -> int:
        if k < 0:
            raise CallError(f"batches are counted from 0, not {k}")
        start = self.offset + (k * self.world + self.rank) * self.batch_size
        if start < 0:
            raise CallError(f"batch {k} would start at position {start}, before the stream begins")
        return start

    def __repr__(self) -> str:
        shape = f"n={len(self.split)}, batch_size={self.batch_size}"
        return f"Feeder({shape}, seed={self.seed}, rank={self.rank} of {self.world})"
