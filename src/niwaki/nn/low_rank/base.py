"""What a low-rank adapter is: how a weight follows from the one that stays and a change of small rank."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from niwaki.core.registry import Registry

__all__ = ["Adapter", "adapter_class", "low_rank_change", "register_adapter"]


def low_rank_change(down: Tensor, up: Tensor) -> Tensor:
    """B·A `(out, in, …)` of A `(r, in, …)` and B `(out, r)`. Of convolutions A has the kernel, so that the
    matrix `(out, in·k·k)` has a rank of r at most (Hu et al. 2022, Section 4.1)."""
    return torch.einsum("or,ri...->oi...", up, down)


class Adapter(ABC):
    """A low-rank change of one layer's weight W `(out, in, …)`; its parameters lie beside the weight, as
    `lora_A`, `lora_B` and whatever more a kind needs.

    rank:  r, of the change
    scale: s = α/r
    axis:  of the layer's weight along which its outputs lie; 1 for transposed convolutions
    """

    name: ClassVar[str]

    def __init__(self, rank: int, scale: float, axis: int = 0) -> None:
        self.rank, self.scale, self.axis = rank, scale, axis

    def parameters(self, weight: Tensor, rng: torch.Generator) -> dict[str, nn.Parameter]:
        """Those that it starts with: B is 0, so that nothing is changed yet; A is drawn uniformly within
        ±1/√(fan-in), as LoRA's authors do in their code (`kaiming_uniform_` with a = √5)."""
        turned = weight.movedim(self.axis, 0)
        bound = 1.0 / math.sqrt(turned[0].numel())
        drawn = torch.rand((self.rank, *turned.shape[1:]), generator=rng) * (2.0 * bound) - bound
        down = drawn.to(weight.device, weight.dtype)
        return {
            "lora_A": nn.Parameter(down),
            "lora_B": nn.Parameter(weight.new_zeros(turned.shape[0], self.rank)),
        }

    def weight(self, layer: nn.Module) -> Tensor:
        """The weight that the layer computes with, in the precision of the one that stays."""
        own: dict[str, Tensor] = layer._parameters  # type: ignore[assignment]
        base = own["weight"]
        with torch.autocast(base.device.type, enabled=False):  # bf16 products would round the change
            changed = self.combine(base.movedim(self.axis, 0), layer)
        return changed.movedim(0, self.axis)

    def restart(self, layer: nn.Module) -> None:  # noqa: B027 (LoRA has nothing to do)
        """Follow a weight that was replaced after the adapter was put on, under `no_grad`."""

    @abstractmethod
    def combine(self, base: Tensor, layer: nn.Module) -> Tensor:
        """The changed weight of the one that stays, both `(out, in, …)`."""

    def change(self, layer: nn.Module) -> Tensor:
        """s·B·A `(out, in, …)`."""
        own: dict[str, Tensor] = layer._parameters  # type: ignore[assignment]
        return self.scale * low_rank_change(own["lora_A"], own["lora_B"])


_registry: Registry[Adapter] = Registry("adapter", ("niwaki.nn.low_rank",))
register_adapter = _registry.register


def adapter_class(name: str) -> type[Adapter]:
    """Raises CallError where there is none of this name."""
    return _registry[name]
