"""DoRA: magnitude and direction of a weight apart (Liu et al. 2024, DoRA: Weight-Decomposed Low-Rank
Adaptation)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.nn.low_rank.base import Adapter, register_adapter

__all__ = ["Dora", "decomposed", "norms"]


@register_adapter("dora")
class Dora(Adapter):
    """m·V/‖V‖ with V = W + s·B·A: the direction changes by a low rank, the magnitude m `(out,)` freely. It
    begins as ‖W‖, so that nothing is changed yet."""

    def parameters(self, weight: Tensor, rng: torch.Generator) -> dict[str, nn.Parameter]:
        magnitude = norms(weight.detach().movedim(self.axis, 0))
        return {
            **super().parameters(weight, rng),
            "lora_magnitude_vector": nn.Parameter(magnitude),
        }

    def combine(self, base: Tensor, layer: nn.Module) -> Tensor:
        magnitude: Tensor = layer._parameters["lora_magnitude_vector"]  # type: ignore[assignment]
        return decomposed(base + self.change(layer), magnitude)

    def restart(self, layer: nn.Module) -> None:
        own: dict[str, Tensor] = layer._parameters  # type: ignore[assignment]
        own["lora_magnitude_vector"].copy_(norms(own["weight"].movedim(self.axis, 0)))


def norms(weight: Tensor) -> Tensor:
    """Euclidean norm of the weights of each output `(out,)`; a row of zeros has the smallest float."""
    return weight.flatten(1).norm(dim=1).clamp_min(torch.finfo(weight.dtype).tiny)


def decomposed(direction: Tensor, magnitude: Tensor) -> Tensor:
    """m·V/‖V‖ of V `(out, in, …)` and m `(out,)` (Equation 5). The norm counts as a constant in the gradient,
    which loses nothing and saves memory (Section 4.3, Equation 11)."""
    share = magnitude / norms(direction.detach())
    return share.reshape(-1, *[1] * (direction.ndim - 1)) * direction
