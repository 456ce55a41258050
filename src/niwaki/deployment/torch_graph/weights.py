"""Weights on integers as quantizers of torch leave them: numbers that are rounded where they are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from niwaki.deployment.torch_graph.module import GraphModule

__all__ = ["RoundedWeights"]


class RoundedWeights(GraphModule):
    """As GraphModule; a converter that folds rounding into constants stores the integers again."""

    def _hold(self, name: str) -> None:
        new = name not in self.held
        super()._hold(name)
        if new and name in self.quantized and name in self.held:
            setattr(self, self.held[name], torch.from_numpy(self.quantized[name].real()))

    def _integers(self, held: Tensor, kind: str, grid: tuple[Any, ...]) -> Tensor:
        rounded: Tensor = getattr(torch.ops.quantized_decomposed, f"quantize_per_{kind}")(held, *grid)
        return rounded
