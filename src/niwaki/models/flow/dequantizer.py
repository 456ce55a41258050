"""Variational dequantization (Ho et al. 2019, Section 3.1): noise in a level's cell, made from the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.models.flow.image_layers import ConvCoupling, InvertibleMix, OnImage, Scale, Squeeze
from niwaki.models.flow.networks import AttentiveNetwork
from niwaki.models.flow.transforms import Affine

__all__ = ["Dequantizer"]

_WIDE = 1.702  # σ(1.702 ε) of a standard normal ε is uniform but for 0.01 (Bowling et al. 2009)


class Dequantizer(nn.Module):
    """q(u | x), u in (0, 1): u = σ(1.7 f(ε; x)), ε ~ N(0, I), f a flow of affine couplings that see x.

    It begins nearly uniform; only its forward direction is ever used.

    shape:  (C, H, W), both sides even
    layers: couplings, each after an invertible 1×1 convolution
    """

    def __init__(
        self, shape: tuple[int, int, int], *, layers: int, width: int, blocks: int, heads: int
    ) -> None:
        super().__init__()
        squeeze = Squeeze(shape)
        seen = squeeze.after

        def network(inputs: int, outputs: int) -> nn.Module:
            return AttentiveNetwork(inputs, outputs, width=width, blocks=blocks, heads=heads, seen=seen[0])

        parts: list[OnImage] = [squeeze]
        for _ in range(layers):
            parts += [InvertibleMix(seen), ConvCoupling(seen, Affine(), network)]
        self.shape, self.flow = shape, Scale(shape, parts)

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Images `(n, C, H, W)` and ε `(n, C·H·W)` → u `(n, C, H, W)` and log q(u | x) `(n,)`."""
        image = eps.unflatten(1, self.shape)
        h, logdet = self.flow.move(image, F.pixel_unshuffle(x, 2))
        h, logdet = _WIDE * F.pixel_shuffle(h, 2), logdet + eps.shape[1] * math.log(_WIDE)
        inside = -F.softplus(h) - F.softplus(-h)  # log of σ'(h)
        normal = -0.5 * (eps.square().sum(1) + eps.shape[1] * math.log(2.0 * math.pi))
        return torch.sigmoid(h), normal - logdet - inside.flatten(1).sum(1)
