"""Time as features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Sinusoidal"]


class Sinusoidal(nn.Module):
    """Times `(n,)` → `(n, dim)`: sines and cosines at dim/2 frequencies, geometric from 1 down to 1/`period`.

    Vaswani et al. 2017, Section 3.5; `dim` must be even.
    """

    frequencies: Tensor

    def __init__(self, dim: int, period: float = 10_000.0) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"a sinusoidal embedding needs an even width, not {dim}")
        exponents = torch.arange(dim // 2, dtype=torch.float64) / max(dim // 2 - 1, 1)
        self.register_buffer(
            "frequencies", torch.exp(-math.log(period) * exponents).float(), persistent=False
        )

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None].float() * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)
