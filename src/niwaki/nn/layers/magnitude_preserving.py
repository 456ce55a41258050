"""Layers that keep the magnitude of what passes through them (Karras, Aittala, Lehtinen, Hellsten, Aila &
Laine 2024, "Analyzing and improving the training dynamics of diffusion models", EDM2): of inputs whose values
have the mean square 1 they make such outputs. Equations are those of the paper."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import ParametrizationList, register_parametrization

__all__ = ["MpCat", "MpSiLU", "MpSum", "UnitRows", "force_unit_rows", "unit_rows"]

Layer = TypeVar("Layer", bound=nn.Conv2d | nn.Linear | nn.Embedding)

_SILU = 0.596
"""Root mean square of silu(x), x standard normal (Equation 81)."""


class UnitRows(nn.Module):
    """v → gain · v / ‖v‖, row by row (Equation 66): the weight that the layer computes with, so that
    gradients are at right angles to v. It becomes a plain weight on export.

    gain: a number; where it is `learned`, its value at first
    """

    def __init__(self, gain: float, *, learned: bool = False) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain)) if learned else gain

    def forward(self, weight: Tensor) -> Tensor:
        return F.normalize(weight.flatten(1), dim=1).view_as(weight) * self.gain


def unit_rows(layer: Layer, gain: float = 1.0, *, learned: bool = False) -> Layer:
    """`layer`, which has no bias, with rows of length `gain`: an output is then `gain` times as large as the
    inputs where these are uncorrelated. It stays a layer of its class."""
    nn.init.normal_(layer.weight)
    register_parametrization(layer, "weight", UnitRows(gain, learned=learned))
    force_unit_rows(layer)
    return layer


@torch.no_grad()
def force_unit_rows(network: nn.Module) -> None:
    """Bring every v of `UnitRows` to values of the mean square 1, in place (forced weight normalization,
    Section 2.3, Algorithm 1): gradients at right angles to v would make it ever longer, and so the steps of
    its direction ever shorter."""
    for module in network.modules():
        if isinstance(module, ParametrizationList) and isinstance(module[0], UnitRows):
            v: Tensor = module.original  # type: ignore[assignment]
            rows = F.normalize(v.flatten(1), dim=1) * math.sqrt(v[0].numel())
            v.copy_(rows.view_as(v))


class MpSiLU(nn.Module):
    """silu(x) / 0.596 (Equation 81)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x) / _SILU


class MpSum(nn.Module):
    """((1 − t) a + t b) / √((1 − t)² + t²) of independent a and b (Equation 88).

    share: t, of b
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        size = math.hypot(1.0 - share, share)
        self.first, self.second = (1.0 - share) / size, share / size

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.first * a + self.second * b


class MpCat(nn.Module):
    """a and b side by side, each weighed as if both had as many channels (Equation 103 at t = ½).

    first, second: channels of a and b as they are built; cutting some of them leaves the weights
    """

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        size = math.sqrt((first + second) / 2.0)
        self.first, self.second = size / math.sqrt(first), size / math.sqrt(second)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([self.first * a, self.second * b], dim=1)
