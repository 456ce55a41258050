"""Pruning as data: which channels of which module stay. Cutting a fresh model by the same list rebuilds the pruned one.

A cut names a module, a side (`out` or `in`) and the kept positions along it, counted in the module's widths at the time
of the cut. Modules with derived widths or masks offer `resize(side, keep)`; the layers of torch are known here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.contract import NiwakiError

__all__ = ["Cut", "apply_cuts", "cut", "width"]


@dataclass(frozen=True)
class Cut:
    """Keep the positions `keep` along one side of a module (or of a bare parameter, by its dotted name)."""

    module: str
    side: str
    keep: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {"module": self.module, "side": self.side, "keep": list(self.keep)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Cut:
        return cls(record["module"], record["side"], tuple(record["keep"]))


def apply_cuts(model: nn.Module, cuts: Iterable[Cut]) -> None:
    """Replay cuts, in order, in place. Raises NiwakiError where a cut does not fit the model."""
    for one in cuts:
        cut(model, one)
