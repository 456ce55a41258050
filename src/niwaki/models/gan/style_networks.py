"""The networks of StyleGAN2: a mapping from latents to styles, a synthesis by styles, a residual
discriminator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.models.gan.networks import EqualizedProjection, MinibatchDeviation, widths
from niwaki.nn.layers.blocks import Unflatten, pyramid
from niwaki.nn.layers.equalized import equalized
from niwaki.nn.layers.images import Squash
from niwaki.nn.layers.modulated import ModulatedConv
from niwaki.nn.layers.pixel_norm import PixelNorm

__all__ = ["Mapping", "StyleDiscriminator", "Synthesis"]

_SLOPE, _GAIN = 0.2, math.sqrt(2)
"""Of the leaky ReLU, and what brings its output back to a second moment of 1."""


class Mapping(nn.Module):
    """z `(n, latent)`, classes `(n,)` → styles `(n, style)`: both brought to length √k, then a perceptron
    whose layers learn `rate` times as fast as the rest (Karras et al. 2019, Appendix C)."""

    def __init__(
        self, latent: int, style: int, *, classes: int, embedding: int, layers: int, rate: float
    ) -> None:
        super().__init__()
        self.norm = PixelNorm()
        self.embed = nn.Embedding(classes, embedding) if classes else None
        inputs = latent + (embedding if classes else 0)
        body: list[nn.Module] = []
        for _ in range(layers):
            body += [equalized(nn.Linear(inputs, style), _GAIN, rate=rate), nn.LeakyReLU(_SLOPE)]
            inputs = style
        self.body = nn.Sequential(*body)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        z = self.norm(z)
        if self.embed is not None:
            z = torch.cat([z, self.norm(self.embed(y))], dim=1)
        return self.body(z)


def smoothly_doubled(x: Tensor) -> Tensor:
    """Twice the height and width by bilinear interpolation, which is the filter [1, 3, 3, 1] of the paper."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class StyleLayer(nn.Module):
    """A modulated 3×3 convolution, noise of learnt strength, a bias, a leaky ReLU: `(n, inputs, h, w)` →
    `(n, outputs, h, w)`, twice that size where `up`."""

    def __init__(self, inputs: int, outputs: int, style: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, style, gain=_GAIN)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.up = up

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        y = self.conv(x, w)
        if self.up:  # a quarter of the products: the convolution first, then the size
            y = smoothly_doubled(y)
        y = y + (self.strength * noise).to(y.dtype) + self.bias.to(y.dtype)[:, None, None]
        return F.leaky_relu(y, _SLOPE)


class ToImage(nn.Module):
    """Features and style → what they add to the image, `(n, C, h, w)`."""

    def __init__(self, inputs: int, channels: int, style: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, channels, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = self.conv(x, w)
        return y + self.bias.to(y.dtype)[:, None, None]


class _Constant(nn.Module):
    """`(n, style)` → the same `(n, channels, h, w)` for every sample."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(1, channels, height, width))

    def forward(self, w: Tensor) -> Tensor:
        return self.value.expand(w.shape[0], -1, -1, -1)


class Synthesis(nn.Module):
    """Styles and noise → images `(n, C, H, W)` in [low, high], as a sum over sizes (the skip generator of
    Karras et al. 2020, Figure 7 b).

    constant: whether it begins with a learnt constant, or with a linear map of the first style (Karras et
              al. 2021 let their input depend on w, too)
    layers:   how many styles it takes, the coarsest first. The image of a size has the same style as the next
              size's first convolution
    noise:    normals that it takes for one sample
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        style: int,
        *,
        constant: bool = True,
        width: int,
        most: int,
        low: float,
        high: float,
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        sizes = pyramid(height, columns)
        w = widths(width, len(sizes), most)
        self.places = [s for i, s in enumerate(sizes) for _ in range(2 if i else 1)]
        self.layers, self.noise = 2 * len(sizes), sum(h * c for h, c in self.places)
        h, c = sizes[0]
        if constant:
            self.start: nn.Module = _Constant(w[0], h, c)
        else:
            self.start = nn.Sequential(equalized(nn.Linear(style, w[0] * h * c)), Unflatten(h, c))
        convs = [StyleLayer(w[0], w[0], style)]
        for before, here in pairwise(w):
            convs += [StyleLayer(before, here, style, up=True), StyleLayer(here, here, style)]
        self.convs = nn.ModuleList(convs)
        self.images = nn.ModuleList(ToImage(width, channels, style) for width in w)
        self.squash = Squash(low, high)

    def forward(self, styles: Sequence[Tensor], noise: Tensor) -> Tensor:
        """styles: `layers` tensors `(n, style)`; noise: `(n, noise)`"""
        x = self.start(styles[0])
        image: Tensor | None = None
        at = 0
        for k, (conv, (h, c)) in enumerate(zip(self.convs, self.places, strict=True)):
            x = conv(x, styles[k], noise[:, at : at + h * c].unflatten(1, (1, h, c)))
            at += h * c
            if k % 2 == 0:  # the last convolution of a size
                part = self.images[k // 2](x, styles[k + 1])
                image = part if image is None else smoothly_doubled(image) + part
        assert image is not None
        return self.squash(image)


class _Residual(nn.Module):
    """Half the size: `(n, inputs, h, w)` → `(n, outputs, h/2, w/2)`, variance kept."""

    residual_ends: ClassVar[tuple[str, ...]] = ("body",)

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            equalized(nn.Conv2d(inputs, inputs, 3, padding=1), _GAIN),
            nn.LeakyReLU(_SLOPE),
            equalized(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), _GAIN),
            nn.LeakyReLU(_SLOPE),
        )
        self.skip = nn.Sequential(nn.AvgPool2d(2), equalized(nn.Conv2d(inputs, outputs, 1, bias=False)))

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.skip(x)) * math.sqrt(0.5)


class StyleDiscriminator(EqualizedProjection):
    """Of images, by residual blocks (Karras et al. 2020, Figure 7 c) with equalized learning rate."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        classes: int,
        width: int,
        most: int,
        features: int,
        deviation: int,
        bias: bool,
    ) -> None:
        channels, height, columns = shape
        sizes = pyramid(height, columns)
        w = widths(width, len(sizes), most)[::-1]
        layers: list[nn.Module] = [equalized(nn.Conv2d(channels, w[0], 1), _GAIN), nn.LeakyReLU(_SLOPE)]
        layers += [_Residual(before, here) for before, here in pairwise(w)]
        inputs = w[-1]
        if deviation:
            layers.append(MinibatchDeviation(deviation))
            inputs += 1
        h, c = sizes[0]
        layers += [
            equalized(nn.Conv2d(inputs, w[-1], 3, padding=1), _GAIN),
            nn.LeakyReLU(_SLOPE),
            nn.Flatten(),
            equalized(nn.Linear(w[-1] * h * c, features), _GAIN),
            nn.LeakyReLU(_SLOPE),
        ]
        super().__init__(nn.Sequential(*layers), features, classes=classes, bias=bias)
