"""Networks that grow from small images to large ones (Karras et al. 2018, "Progressive Growing of GANs")."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.models.gan.networks import EqualizedProjection, MinibatchDeviation, widths
from niwaki.nn.layers.blocks import Unflatten, pyramid
from niwaki.nn.layers.equalized import equalized
from niwaki.nn.layers.images import Squash
from niwaki.nn.layers.pixel_norm import PixelNorm

__all__ = ["GrowingDiscriminator", "GrowingGenerator", "doubled"]

_SLOPE = 0.2
_GAIN = math.sqrt(2 / (1 + _SLOPE**2))

_activation = partial(nn.LeakyReLU, _SLOPE)


def doubled(x: Tensor) -> Tensor:
    """Twice the height and width, every pixel four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class _Growing(nn.Module):
    """What both networks have: parts for every size, of which those up to `level` are used.

    earlier: what joins features and images at all sizes but the last; `last` at that one
    level:   which size images have, 0 the coarsest
    alpha:   share of that size in the result; the rest is that of the size before
    """

    earlier: nn.ModuleList
    last: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.level, self.alpha = 0, 1.0

    @property
    def joints(self) -> list[nn.Module]:
        """What joins features and images, by level."""
        return [*self.earlier, self.last]


class GrowingGenerator(_Growing):
    """z `(n, latent)`, classes `(n,)` → images of the level's size, in [low, high]."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        latent: int,
        classes: int,
        embedding: int,
        width: int,
        most: int,
        low: float,
        high: float,
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        sizes = pyramid(height, columns)
        w = widths(width, len(sizes), most)
        (h, c), self.level = sizes[0], len(sizes) - 1
        self.norm = PixelNorm()
        self.embed = equalized(nn.Embedding(classes, embedding), math.sqrt(embedding)) if classes else None
        inputs = latent + (embedding if classes else 0)
        self.stem = nn.Sequential(
            equalized(nn.Linear(inputs, w[0] * h * c), _GAIN),
            Unflatten(h, c),
            _activation(),
            PixelNorm(),
            *self._conv(w[0], w[0]),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2.0), *self._conv(before, here), *self._conv(here, here))
            for before, here in pairwise(w)
        )
        *earlier, self.last = (
            nn.Sequential(equalized(nn.Conv2d(width, channels, 1)), Squash(low, high)) for width in w
        )
        self.earlier = nn.ModuleList(earlier)

    @staticmethod
    def _conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
        return equalized(nn.Conv2d(inputs, outputs, 3, padding=1), _GAIN), _activation(), PixelNorm()

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        z = self.norm(z)
        if self.embed is not None:
            z = torch.cat([z, self.embed(y)], dim=1)
        x = before = self.stem(z)
        for block in list(self.blocks)[: self.level]:
            before, x = x, block(x)
        image: Tensor = self.joints[self.level](x)
        if self.alpha < 1:
            image = torch.lerp(doubled(self.joints[self.level - 1](before)), image, self.alpha)
        return image


class _Features(_Growing):
    """Images of the level's size → `(n, features)`."""

    def __init__(
        self, shape: tuple[int, int, int], *, width: int, most: int, features: int, deviation: int
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        sizes = pyramid(height, columns)
        w = widths(width, len(sizes), most)
        (h, c), self.level = sizes[0], len(sizes) - 1
        *earlier, self.last = (
            nn.Sequential(equalized(nn.Conv2d(channels, width, 1), _GAIN), _activation()) for width in w
        )
        self.earlier = nn.ModuleList(earlier)
        self.blocks = nn.ModuleList(  # from each size to the one before
            nn.Sequential(*self._conv(here, here), *self._conv(here, before), nn.AvgPool2d(2))
            for before, here in pairwise(w)
        )
        head: list[nn.Module] = [MinibatchDeviation(deviation)] if deviation else []
        self.head = nn.Sequential(
            *head,
            *self._conv(w[0] + len(head), w[0]),
            nn.Flatten(),
            equalized(nn.Linear(w[0] * h * c, features), _GAIN),
            _activation(),
        )

    @staticmethod
    def _conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
        return equalized(nn.Conv2d(inputs, outputs, 3, padding=1), _GAIN), _activation()

    def forward(self, image: Tensor) -> Tensor:
        x = self.joints[self.level](image)
        for k in range(self.level, 0, -1):
            x = self.blocks[k - 1](x)
            if k == self.level and self.alpha < 1:
                x = torch.lerp(self.joints[k - 1](F.avg_pool2d(image, 2)), x, self.alpha)
        return self.head(x)


class GrowingDiscriminator(EqualizedProjection):
    """Of images of the level's size: the generator's blocks backwards, without normalization."""

    features: _Features

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
        phi = _Features(shape, width=width, most=most, features=features, deviation=deviation)
        super().__init__(phi, features, classes=classes, bias=bias)
