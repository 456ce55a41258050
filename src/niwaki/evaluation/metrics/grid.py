"""Coordinates that take only multiples of a step: counts, ages in years, rounded amounts, binary columns.

A number beside the grid is no possible value there, however near it lies to one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Grid"]

_OFF = 0.01
"""In steps: nearer to a multiple counts as on it (features may have been scaled in float32)."""
_FEW = 10
"""With at least so many different values chance lays none on a grid: each gap hits one with 2·_OFF."""


@dataclass(frozen=True)
class Grid:
    """columns: those on a grid `(c,)` int64; start, step: of each `(c,)` float64."""

    columns: Tensor
    start: Tensor
    step: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Grid:
        """The grids of the columns of a set `(n, d)`.

        The step is the smallest gap between different values, and all gaps are multiples of it. Of fewer than
        ten values more than half must occur twice, so that a feature that is zero but for one sample, or
        constant, has none.
        """
        columns, start, step = [], [], []
        for i, column in enumerate(x.T):
            value, count = column.unique(return_counts=True)
            if len(value) < 2 or (len(value) < _FEW and 2 * int((count > 1).sum()) <= len(value)):
                continue
            gap = value.diff()
            smallest = gap.min()
            if bool(_on(gap / smallest).all()):
                columns.append(i)
                start.append(float(value[0]))
                step.append(float(smallest))
        numbers = {"dtype": torch.float64, "device": x.device}
        return cls(
            torch.tensor(columns, dtype=torch.int64, device=x.device),
            torch.tensor(start, **numbers),  # type: ignore[arg-type]
            torch.tensor(step, **numbers),  # type: ignore[arg-type]
        )

    def holds(self, x: Tensor) -> Tensor:
        """Which samples `(n, d)` are on the grid in every column that has one: bool `(n,)`."""
        return _on((x[:, self.columns] - self.start) / self.step).all(1)


def _on(multiple: Tensor) -> Tensor:
    return (multiple - multiple.round()).abs() <= _OFF
