"""Normalization of the feature vector at every place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["PixelNorm"]


class PixelNorm(nn.Module):
    """x / √(mean of x² over channels): `(n, C, …)` → the same (Karras et al. 2018, Section 4.2)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)
