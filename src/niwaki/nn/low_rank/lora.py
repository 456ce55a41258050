"""LoRA: W + s·B·A (Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language Models)."""

from __future__ import annotations

from torch import Tensor, nn

from niwaki.nn.low_rank.base import Adapter, register_adapter

__all__ = ["Lora"]


@register_adapter("lora")
class Lora(Adapter):
    """W + s·B·A, s = α/r."""

    def combine(self, base: Tensor, layer: nn.Module) -> Tensor:
        return base + self.change(layer)
