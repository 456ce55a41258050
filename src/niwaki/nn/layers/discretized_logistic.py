"""Logistic distributions of stored levels (Kingma et al. 2016; Salimans et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["log_mass"]


def log_mass(k: Tensor, means: Tensor, scales: Tensor, levels: int) -> Tensor:
    """log P of the levels `k`: the mass from k − ½ to k + ½; the outermost levels hold all that lies beyond.

    k:             0 … levels − 1, as floats
    means, scales: where the range of the levels is −1 … 1
    """
    half = 1.0 / (levels - 1)
    v = k * (2.0 * half) - 1.0
    upper, lower = (v + half - means) / scales, (v - half - means) / scales
    # σ(b) − σ(a) = σ(b) σ(−a) (1 − e^(a − b)): nothing cancels far from the mean
    gap = torch.log(-torch.expm1(lower - upper))
    inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + gap
    mass = torch.where(k == 0, F.logsigmoid(upper), inside)
    return torch.where(k == levels - 1, F.logsigmoid(-lower), mass)
