"""Heads in training: what a network's raw numbers mean, and what they cost beside the truth.

The twin of `niwaki_runtime.heads`, which draws from the same parameters on the device.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki_runtime.heads import Gaussian, Head, Mixture, Quantiles

__all__ = ["HEADS", "TrainedHead", "normal_of", "trained_head"]

Kind = TypeVar("Kind", bound="type[TrainedHead]")

HEADS: dict[str, type[TrainedHead]] = {}


def _register(name: str) -> Callable[[Kind], Kind]:
    def enter(cls: Kind) -> Kind:
        HEADS[name] = cls
        return cls

    return enter


def trained_head(name: str, levels: tuple[float, ...], components: int) -> TrainedHead:
    """Raises CallError with the nearest name where there is none."""
    if name not in HEADS:
        raise CallError(f"there is no head '{name}'; {nearest(name, HEADS)}")
    return HEADS[name](levels, components)


class TrainedHead(ABC):
    """Raw numbers `(…, raw)` → the parameters `(…, parameters)` of one distribution per value.

    drawn: how a device draws from them
    """

    drawn: Head

    @abstractmethod
    def __init__(self, levels: tuple[float, ...], components: int) -> None:
        """levels: of quantiles; components: of a mixture; each head takes what it needs."""

    @property
    def raw(self) -> int:
        """Numbers that the network gives for one value."""
        return self.drawn.parameters

    @abstractmethod
    def parameters(self, raw: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
        """As the device reads them; `centre` and `scale` `(…)` put them into the unit of the values."""

    @abstractmethod
    def loss(self, parameters: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """A proper score of the distribution `(…)`, lower is better, of values measured in `unit`."""

    @abstractmethod
    def probability(self, parameters: Tensor, truth: Tensor) -> Tensor:
        """F(truth) `(…)`, within (0, 1): uniform where the distribution is right."""


@_register("quantiles")
class _Quantiles(TrainedHead):
    """Quantiles at levels: the lowest one, and a positive step to each of the next, so that they rise."""

    name: ClassVar[str] = "quantiles"

    def __init__(self, levels: tuple[float, ...], components: int) -> None:
        self.drawn = Quantiles(levels)
        self.levels = self.drawn.levels

    def parameters(self, raw: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
        # From the middle outwards, so that the location is not the sum of all the steps below it.
        m = len(self.levels) // 2
        steps = F.softplus(torch.cat([raw[..., :m], raw[..., m + 1 :]], -1)) / len(self.levels)
        below = -torch.flip(torch.cumsum(torch.flip(steps[..., :m], (-1,)), -1), (-1,))
        above = torch.cumsum(steps[..., m:], -1)
        middle = raw[..., m : m + 1]
        z = torch.cat([middle + below, middle, middle + above], -1)
        return centre.unsqueeze(-1) + scale.unsqueeze(-1) * z

    def loss(self, parameters: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """Twice the mean pinball loss over the levels: CRPS = 2 ∫ pinball_τ dτ (Gneiting & Ranjan 2011)."""
        tau = torch.tensor(self.levels, dtype=parameters.dtype, device=parameters.device)
        error = (truth.unsqueeze(-1) - parameters) / unit.unsqueeze(-1)
        return 2 * torch.maximum(tau * error, (tau - 1) * error).mean(-1)

    def probability(self, parameters: Tensor, truth: Tensor) -> Tensor:
        """On straight lines between the levels; what lies beyond the outermost one counts as its level."""
        tau = torch.tensor(self.levels, dtype=parameters.dtype, device=parameters.device)
        width = (parameters[..., 1:] - parameters[..., :-1]).clamp_min(1e-12)
        share = ((truth.unsqueeze(-1) - parameters[..., :-1]) / width).clamp(0, 1)
        return tau[0] + (share * (tau[1:] - tau[:-1])).sum(-1)


@_register("mixture")
class _Mixture(TrainedHead):
    """Logistic distributions with weights; trained by the likelihood."""

    name: ClassVar[str] = "mixture"

    def __init__(self, levels: tuple[float, ...], components: int) -> None:
        self.drawn = Mixture(components)

    def parameters(self, raw: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
        weights, means, scales = raw.chunk(3, -1)
        centre, scale = centre.unsqueeze(-1), scale.unsqueeze(-1)
        # Scales between e^−7 and e^3 of the window's own: neither a spike of density nor none at all.
        return torch.cat([weights, centre + scale * means, torch.log(scale) + scales.clamp(-7.0, 3.0)], -1)

    def loss(self, parameters: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """−log Σ πₖ unit/sₖ · σ(zₖ)σ(−zₖ), zₖ = (x − μₖ)/sₖ."""
        weights, means, scales = parameters.chunk(3, -1)
        z = (truth.unsqueeze(-1) - means) * torch.exp(-scales)
        density = torch.log_softmax(weights, -1) - scales + F.logsigmoid(z) + F.logsigmoid(-z)
        return -torch.logsumexp(density, -1) - torch.log(unit)

    def probability(self, parameters: Tensor, truth: Tensor) -> Tensor:
        weights, means, scales = parameters.chunk(3, -1)
        z = (truth.unsqueeze(-1) - means) * torch.exp(-scales)
        return (torch.softmax(weights, -1) * torch.sigmoid(z)).sum(-1).clamp(1e-6, 1 - 1e-6)


@_register("gaussian")
class _Gaussian(TrainedHead):
    """A normal distribution, trained by the likelihood."""

    name: ClassVar[str] = "gaussian"

    def __init__(self, levels: tuple[float, ...], components: int) -> None:
        self.drawn = Gaussian()

    def parameters(self, raw: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
        mean, width = raw.unbind(-1)
        # Between e^−7 and e^3 of the window's own scale, as the components of a mixture.
        return torch.stack([centre + scale * mean, torch.log(scale) + width.clamp(-7.0, 3.0)], -1)

    def loss(self, parameters: Tensor, truth: Tensor, unit: Tensor) -> Tensor:
        """−log N(x; μ, σ²) in units: z²/2 + log(σ √2π / unit), z = (x − μ)/σ."""
        mean, log_deviation = parameters.unbind(-1)
        z = (truth - mean) * torch.exp(-log_deviation)
        return 0.5 * z * z + log_deviation + 0.5 * math.log(2 * math.pi) - torch.log(unit)

    def probability(self, parameters: Tensor, truth: Tensor) -> Tensor:
        mean, log_deviation = parameters.unbind(-1)
        z = (truth - mean) * torch.exp(-log_deviation)
        return (0.5 * (1 + torch.erf(z / math.sqrt(2.0)))).clamp(1e-6, 1 - 1e-6)


def normal_of(probability: Tensor) -> Tensor:
    """Φ⁻¹, of probabilities within (0, 1)."""
    return math.sqrt(2.0) * torch.erfinv(2.0 * probability - 1.0)
