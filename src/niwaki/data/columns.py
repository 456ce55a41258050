"""Columns: one thing known about every sample, stored small, seen by a model as its spec says."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from niwaki.core.contract import CallError, ValueSpec

__all__ = ["Column", "seen"]


def seen(spec: ValueSpec, stored: Tensor) -> Tensor:
    """Stored values as a model sees them: float32 in [low, high], or int64 where they are tokens."""
    if spec.is_tokens:
        return stored.long()
    # Levels that were never rounded are kept as they are seen.
    if stored.is_floating_point():
        return stored.float()
    return spec.values.seen(stored.float())


@dataclass(frozen=True)
class Column:
    """One column of a split.

    spec:   what one value is
    data:   `(n, *spec.shape)`: integers 0 … n−1 for levels and tokens, float32 for amounts (and for levels
            that were never rounded)
    paired: whether row i belongs to sample i; an unpaired column has a length and a stream of its own

    Raises CallError where the data are not of the spec's shape.
    """

    spec: ValueSpec
    data: Tensor
    paired: bool = True

    def __post_init__(self) -> None:
        if tuple(self.data.shape[1:]) != tuple(self.spec.shape):
            raise CallError(
                f"a column of {self.spec.modality} {self.spec.shape} cannot hold {tuple(self.data.shape[1:])}"
            )

    def __len__(self) -> int:
        return int(self.data.shape[0])

    def values(self, index: Tensor | None = None) -> Tensor:
        """The values at `index`, or all, as a model sees them."""
        return seen(self.spec, self.data if index is None else self.data[index])

    def take(self, index: Tensor) -> Column:
        """The rows at `index` (positions or a mask)."""
        return replace(self, data=self.data[index])

    def to(self, device: torch.device | str) -> Column:
        """The same on another device."""
        return replace(self, data=self.data.to(device))
