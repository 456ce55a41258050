"""Self-attention over the pixels of a feature map, with its heads spelled out."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import CallError
from niwaki.nn.layers.blocks import near_zero_init

__all__ = ["Attention2d", "attend"]


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(q kᵀ·scale) v over `(n, heads, positions, d)`.

    In training on a CPU in bf16 it is spelled out: backwards, torch's fused CPU kernel takes 16 times as
    long there (61 against 3.7 ms at (128, 4, 64, 16), torch 2.13, one thread with AVX512-BF16). Long
    sequences keep to the kernel, which does not hold the matrix of weights.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad and q.shape[2] <= 1024:
        return torch.softmax((q * scale) @ k.transpose(2, 3), dim=-1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


class Attention2d(nn.Module):
    """x + out(softmax(q kᵀ/√d) v) over h·w positions (Vaswani et al. 2017; placed as in Ho et al. 2020).

    Query, key, value and output are separate 1×1 convolutions and the width of a head is inferred from them,
    so that cutting the same channels of every head from q and k (or from v and out) leaves a working
    module. The scale 1/√d is that of the uncut head: cutting channels that are zero then changes nothing.

    channels: width of the feature map
    heads:    number of heads; must divide `channels`
    groups:   groups of the GroupNorm before it
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("out",)

    def __init__(self, channels: int, heads: int, groups: int = 8) -> None:
        super().__init__()
        if channels % heads:
            raise CallError(f"{channels} channels cannot be shared by {heads} attention heads")
        self.heads = heads
        self.scale = (channels // heads) ** -0.5
        self.norm = nn.GroupNorm(groups, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1, bias=False)  # softmax does not see a bias of the keys
        self.v = nn.Conv2d(channels, channels, 1)
        self.out = near_zero_init(nn.Conv2d(channels, channels, 1))

    def _split(self, x: Tensor) -> Tensor:
        """(n, heads·d, h, w) → (n, heads, h·w, d)"""
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = self._split(self.q(h)), self._split(self.k(h)), self._split(self.v(h))
        mixed = attend(q, k, v, self.scale)
        mixed = torch.flatten(mixed.transpose(2, 3), 1, 2)  # (n, heads·d, h·w)
        return x + self.out(mixed.unflatten(2, x.shape[2:]))
