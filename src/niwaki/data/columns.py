"""Columns: one thing known about every sample, stored small, seen by a model as its spec says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import CallError, Levels, Real, Tokens, ValueSpec

__all__ = ["Column", "seen"]


def _levels(values: Any, stored: Tensor) -> Tensor:
    if stored.is_floating_point():
        return stored.float()
    # u / (n−1) first: the ends are then exactly low and high, and all values lie between them
    return stored.float().div_(values.n - 1).mul_(values.high - values.low).add_(values.low)


_SEEN: dict[type, Callable[[Any, Tensor], Tensor]] = {
    Levels: _levels,
    Real: lambda values, stored: stored.float(),
    Tokens: lambda values, stored: stored.long(),  # names, not amounts
}


def seen(spec: ValueSpec, stored: Tensor) -> Tensor:
    """Stored values as a model sees them: float32 in [low, high], or int64 where they are tokens."""
    return _SEEN[type(spec.values)](spec.values, stored)


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
