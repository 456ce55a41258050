"""Weights on integers as quantizers of torch leave them: numbers that are rounded where they are used."""

from __future__ import annotations

import torch
from torch import Tensor

from niwaki.deployment.torch_graph import rounding
from niwaki.deployment.torch_graph.module import GraphModule, weights_on_int8

__all__ = ["RoundedWeights"]


class RoundedWeights(GraphModule):
    """As GraphModule; a converter that folds rounding into constants stores the integers again."""

    def _hold(self, name: str) -> None:
        new = name not in self.held
        super()._hold(name)
        if new and name in self.quantized and name in self.held:
            setattr(self, self.held[name], torch.from_numpy(self.quantized[name].real()))

    def _constant(self, name: str) -> Tensor:
        place, stored = self.held[name], self.quantized.get(name)
        value: Tensor = getattr(self, place)
        if stored is None:
            return value
        scale, zero = getattr(self, f"{place}_scale"), getattr(self, f"{place}_zero")
        ops = torch.ops.quantized_decomposed
        rounded: Tensor
        if scale.ndim == 0:
            _, _, zeros = weights_on_int8(stored.values, stored.scale, stored.zero)
            grid = (float(stored.scale), int(zeros), rounding.LOW, rounding.HIGH, torch.int8)
            rounded = ops.dequantize_per_tensor(ops.quantize_per_tensor(value, *grid), *grid)
        else:
            channels = (scale, zero, stored.axis, rounding.LOW, rounding.HIGH, torch.int8)
            rounded = ops.dequantize_per_channel(ops.quantize_per_channel(value, *channels), *channels)
        return rounded
