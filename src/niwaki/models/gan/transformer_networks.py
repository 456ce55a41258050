"""A generator of transformer blocks, and a discriminator that looks at patches."""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError
from niwaki.models.gan.networks import initialize, widths
from niwaki.nn.layers.attention import Attention2d
from niwaki.nn.layers.blocks import Unflatten, conv_down, near_zero_init, pyramid
from niwaki.nn.layers.images import Squash

__all__ = ["PatchDiscriminator", "TransformerBlock", "TransformerGenerator"]

_GROUPS = 8


class _Mlp(nn.Module):
    """x + W₂ gelu(W₁ norm(x)) at every token; W₂ starts near zero."""

    residual_ends: ClassVar[tuple[str, ...]] = ("narrow",)

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(_GROUPS, channels), channels)
        self.wide = nn.Conv2d(channels, ratio * channels, 1)
        self.narrow = near_zero_init(nn.Conv2d(ratio * channels, channels, 1), gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(nn.functional.gelu(self.wide(self.norm(x))))


class TransformerBlock(nn.Sequential):
    """Self-attention among the h·w tokens of a grid `(n, channels, h, w)`, then an MLP at each, both beside a
    skip (Vaswani et al. 2017, the norm first). Linear layers of tokens are 1×1 convolutions of the grid, and
    the
    norm is over groups of channels: both can be pruned."""

    def __init__(self, channels: int, *, heads: int, ratio: int) -> None:
        super().__init__(Attention2d(channels, heads, math.gcd(_GROUPS, channels)), _Mlp(channels, ratio))


class TransformerGenerator(nn.Module):
    """z `(n, latent)` and classes `(n,)` → images `(n, C, H, W)` in [low, high].

    TransGAN (Jiang, Chang & Wang 2021): z becomes a small grid of tokens, blocks work on it, it is doubled,
    and so on until there is one token per patch. A doubling is a linear layer that makes four tokens of one
    (a transposed convolution, which is its linear layer and pixel shuffle in one). Tokens know their place by
    that and by the first layer, each of whose tokens has weights of its own.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        latent: int,
        classes: int,
        embedding: int,
        width: int,
        most: int,
        blocks: int,
        heads: int,
        ratio: int,
        patch: int,
        low: float,
        high: float,
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        if height % patch or columns % patch:
            raise CallError(
                f"images of {height}×{columns} cannot be cut into patches of {patch}×{patch} pixels"
            )
        sizes = pyramid(height // patch, columns // patch)
        w = widths(width, len(sizes), most)
        self.embed = nn.Embedding(classes, embedding) if classes else None
        (h, c), inputs = sizes[0], latent + (embedding if classes else 0)
        self.stem = nn.Sequential(nn.Linear(inputs, w[0] * h * c), Unflatten(h, c))
        body: list[nn.Module] = []
        for i, channels_here in enumerate(w):
            if i:
                body.append(nn.ConvTranspose2d(w[i - 1], channels_here, 2, stride=2))
            body += [TransformerBlock(channels_here, heads=heads, ratio=ratio) for _ in range(blocks)]
        body.append(nn.GroupNorm(math.gcd(_GROUPS, w[-1]), w[-1]))
        self.body = nn.Sequential(*body)
        self.output = nn.Sequential(
            nn.ConvTranspose2d(w[-1], channels, patch, stride=patch), Squash(low, high)
        )

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(y)], dim=1)
        return self.output(self.body(self.stem(z)))


class PatchDiscriminator(nn.Module):
    """Images `(n, C, H, W)` → a logit for each of (H/2)·(W/2) overlapping patches of 10×10 pixels `(n,
    patches)` (PatchGAN, Isola et al. 2017), with a projection of the class at every patch (Miyato & Koyama
    2018)."""

    def __init__(self, shape: tuple[int, int, int], *, classes: int, width: int, bias: bool) -> None:
        super().__init__()
        if shape[1] % 2 or shape[2] % 2:
            raise CallError(
                f"patches are judged of images of even height and width, not {shape[1]}×{shape[2]}"
            )
        activation = partial(nn.LeakyReLU, 0.2)
        self.patches = nn.Sequential(
            nn.Conv2d(shape[0], width, 3, padding=1),
            activation(),
            *conv_down(width, 2 * width, activation),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            activation(),
        )
        self.logit = nn.Conv2d(2 * width, 1, 1, bias=bias)
        self.apply(initialize)
        self.embed = nn.Embedding(classes, 2 * width) if classes else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=(2 * width) ** -0.5)

    def features(self, x: Tensor) -> Tensor:
        """What patches show on average `(n, k)`."""
        return self.patches(x).flatten(2).mean(2)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        phi = self.patches(x)
        logits = self.logit(phi).flatten(1)
        if self.embed is None:
            return logits
        return logits + (self.embed(y)[:, :, None] * phi.flatten(2)).sum(1)
