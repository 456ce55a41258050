"""The two halves of a convolutional autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.nn.layers.blocks import Unflatten, conv_norm, conv_up, pyramid
from niwaki.nn.layers.images import Squash

__all__ = ["Decoder", "Encoder", "Unit"]


class Unit(nn.Module):
    """σ into [low, high]."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low = low
        self.high = high

    def forward(self, x: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * x.sigmoid()


class Encoder(nn.Module):
    """x in [−1, 1] `(n, C, H, W)` and classes → mean and log-variance of q(z | x), each `(n, latent)`."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        latent: int,
        classes: int,
        embedding: int,
        width: int,
        hidden: int,
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        sizes = pyramid(height, columns)
        layers: list[nn.Module] = conv_norm(channels, width)
        for i in range(1, len(sizes)):
            layers += [
                nn.Conv2d(width * 2 ** (i - 1), width * 2**i, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width * 2**i),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.embed = nn.Embedding(classes, embedding) if classes else None
        inputs = width * 2 ** (len(sizes) - 1) * sizes[0][0] * sizes[0][1] + (embedding if classes else 0)
        self.hidden = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU())
        self.mean = nn.Linear(hidden, latent)
        self.log_var = nn.Linear(hidden, latent)
        nn.init.zeros_(self.log_var.bias)

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        if self.embed is not None:
            h = torch.cat([h, self.embed(y)], dim=1)
        h = self.hidden(h)
        return self.mean(h), self.log_var(h).clamp(-12.0, 12.0)


class Decoder(nn.Module):
    """z `(n, latent)` and classes → the mean of p(x | z) in [low, high] `(n, C, H, W)`.

    `raw` gives what a likelihood wants.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        latent: int,
        classes: int,
        embedding: int,
        width: int,
        upsampling: str,
        unit: bool,
        low: float,
        high: float,
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        sizes = pyramid(height, columns)
        h, c = sizes[0]
        first = width * 2 ** (len(sizes) - 1)
        self.embed = nn.Embedding(classes, embedding) if classes else None
        inputs = latent + (embedding if classes else 0)
        self.stem = nn.Sequential(
            nn.Linear(inputs, first * h * c, bias=False), Unflatten(h, c), nn.BatchNorm2d(first), nn.ReLU()
        )
        body: list[nn.Module] = []
        for i in reversed(range(1, len(sizes))):
            body += conv_up(width * 2**i, width * 2 ** (i - 1), upsampling=upsampling)
        self.body = nn.Sequential(*body)
        self.output = nn.Conv2d(width, channels, 3, padding=1)
        # A Bernoulli likelihood takes logits; a Gaussian one takes the mean, kept in the samples' range.
        self.link = nn.Identity() if unit else Squash(low, high)
        self.finish = Unit(low, high) if unit else nn.Identity()

    def raw(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits (Bernoulli) or mean (Gaussian) `(n, C, H, W)`."""
        if self.embed is not None:
            z = torch.cat([z, self.embed(y)], dim=1)
        return self.link(self.output(self.body(self.stem(z))))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.finish(self.raw(z, y))
