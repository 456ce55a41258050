"""How much the error at each noise level counts in the loss of a denoiser."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from niwaki_runtime.process.conversions import Conversion

__all__ = ["Uncertainty", "min_snr_weight"]

_LEAST = 1e-8  # of α: pure noise has none, and its weight is the limit


def min_snr_weight(known: Conversion, a: Tensor, s: Tensor, gamma: float) -> Tensor:
    """min(SNR, γ) of the error of x₀, as the weight of the prediction's own error (Hang et al. 2023;
    SNR = α²/σ²).

    That is min(SNR, γ)/SNR for ε and min(SNR, γ)/(SNR + 1) for v, both finite at α = 0.

    known: what the network says
    a, s:  α ≥ 0 and σ > 0, alike in shape
    """
    a = a.clamp(min=_LEAST)
    # x₀ is affine in what the network says, so its error is this factor times the prediction's.
    factor, _ = known.to_x0_eps(torch.zeros_like(a), torch.ones_like(a), a, s)
    return (a / s).square().clamp(max=gamma) * factor.square()


class Uncertainty(nn.Module):
    """u of the noise level, which the error over eᵘ plus u teaches to be the logarithm of the mean error
    there: every level then has a loss near 1 (Karras et al. 2024, "EDM2", config C; Kendall et al. 2018).

    (α, σ) → u, alike in shape. One layer over sines and cosines of ln(σ/α)/4; it begins at u = 0.
    """

    frequencies: Tensor

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        # Those of a normal distribution, evenly by its quantiles instead of drawn.
        share = (torch.arange(width // 2, dtype=torch.float64) + 0.5) / (width // 2)
        spread = 2.0 * math.pi * math.sqrt(2.0) * torch.erfinv(share)
        self.register_buffer("frequencies", spread.float(), persistent=False)
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, a: Tensor, s: Tensor) -> Tensor:
        noise = 0.25 * (s / a.clamp(min=1e-4)).log()
        angles = noise[..., None] * self.frequencies
        return self.out(torch.cat([angles.sin(), angles.cos()], -1)).squeeze(-1)
