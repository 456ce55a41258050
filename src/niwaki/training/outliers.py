"""Gradients that are not followed: those far larger than the ones before them, or not finite.

A fixed threshold skips for ever once a model's gradients have grown past it (vdvae #25). Here it is a
multiple of a running norm, which skipped gradients raise too, and ten in a row are the most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["IN_A_ROW", "Outliers", "norm_of"]

IN_A_ROW = 10
"""Gradients that are skipped one after another at most: the next is followed, whatever it is."""
_RATE = 0.05
_FIRST = 20  # norms seen before any that is finite is skipped: those of the start differ widely


@dataclass
class _Seen:
    """norm: running geometric mean; count: norms in it; row: skipped one after another"""

    norm: float = 0.0
    count: int = 0
    row: int = 0


@dataclass
class Outliers:
    """The gradient norms of every phase, and which of them are too large."""

    seen: dict[str, _Seen] = field(default_factory=dict)

    def skips(self, phase: str, norm: float, most: float) -> bool:
        """Whether a gradient of that norm is skipped: it is above `most` times the running norm, or not
        finite. Takes the norm into the running one, at most as large as would just have been followed."""
        seen = self.seen.setdefault(phase, _Seen())
        finite = math.isfinite(norm)
        known = seen.count >= _FIRST
        unfit = not finite or (known and norm > most * seen.norm)
        if finite and norm > 0.0:
            taken = min(norm, most * seen.norm) if known else norm
            seen.count += 1
            rate = max(_RATE, 1.0 / seen.count)
            seen.norm = taken if seen.count == 1 else seen.norm ** (1.0 - rate) * taken**rate
        seen.row = seen.row + 1 if unfit and seen.row < IN_A_ROW else 0
        return seen.row > 0

    def clear(self) -> None:
        """Forget all: another stage, other gradients."""
        self.seen.clear()

    def to_json(self) -> dict[str, Any]:
        return {phase: asdict(seen) for phase, seen in self.seen.items()}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Outliers:
        return cls({phase: _Seen(**values) for phase, values in record.items()})


def norm_of(gradients: Iterable[Tensor | None]) -> Tensor:
    """The norm of all of them together."""
    found = [g for g in gradients if g is not None]
    return torch.linalg.vector_norm(torch.stack([n.float() for n in torch._foreach_norm(found)]))
