"""Gates that are exactly 0 or 1 with positive probability, and still have a gradient.

Louizos, Welling & Kingma 2018, "Learning sparse neural networks through L0 regularization"; equations by
their numbers there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["BETA", "GAMMA", "ZETA", "HardConcrete", "gate", "hard_concrete", "open_probability"]

BETA, GAMMA, ZETA = 2.0 / 3.0, -0.1, 1.1
"""Temperature, and the ends that the concrete distribution on (0, 1) is stretched to (their Section 4)."""

_AT_FIRST = 2.0  # log α: open with probability 0.97


def hard_concrete(log_alpha: Tensor, u: Tensor) -> Tensor:
    """z in [0, 1] from uniform u, in the shape of both.

    s = σ((log u − log(1−u) + log α) / β), s̄ = s(ζ−γ) + γ, z = min(1, max(0, s̄))   (eq. 10, 11)
    """
    s = torch.sigmoid((torch.log(u) - torch.log1p(-u) + log_alpha) / BETA)
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)


def open_probability(log_alpha: Tensor) -> Tensor:
    """P(z ≠ 0) = σ(log α − β log(−γ/ζ)), whose sum is the expected L0 norm   (eq. 12)."""
    return torch.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))


def gate(log_alpha: Tensor) -> Tensor:
    """ẑ = min(1, max(0, σ(log α)(ζ−γ) + γ)): what is used after training   (eq. 13)."""
    return (torch.sigmoid(log_alpha) * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)


class HardConcrete(nn.Module):
    """Gates of one shape. `z` is what `draw` left: a sample in training, ẑ otherwise.

    pace: log α per unit of the parameter: gates must get from open to closed while weights move by little, at
          the same learning rate
    """

    z: Tensor

    def __init__(self, shape: Sequence[int], pace: float = 1.0) -> None:
        super().__init__()
        self.pace = pace
        self.theta = nn.Parameter(torch.full(tuple(shape), _AT_FIRST / pace))
        self.z = gate(self.log_alpha).detach()

    @property
    def log_alpha(self) -> Tensor:
        return self.theta * self.pace

    def draw(self, rng: torch.Generator | None) -> Tensor:
        """New gates: random ones from `rng`, ẑ for None."""
        if rng is None:
            self.z = gate(self.log_alpha)
        else:
            u = torch.rand(self.theta.shape, generator=rng, device=self.theta.device)
            self.z = hard_concrete(self.log_alpha, u.clamp(1e-6, 1.0 - 1e-6))
        return self.z
