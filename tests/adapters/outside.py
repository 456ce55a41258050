"""Generators as other people write them: nothing here knows niwaki."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OutsideDcgan(nn.Module):
    """Transposed convolutions from a 1×1 latent, as in the DCGAN of many tutorials; 16×16 images."""

    def __init__(self, channels: int = 3, width: int = 8, latent: int = 20) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(latent, width * 2, 4, 1, 0, bias=False),
            nn.BatchNorm2d(width * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(width * 2, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(True),
            nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)


class ClassGenerator(nn.Module):
    """Latents and classes by embedding; vectors in −1 … 1."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6), nn.Tanh())

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.net(torch.cat([z, self.embed(y)], dim=1))


def make(channels: int = 3) -> nn.Module:
    return OutsideDcgan(channels)


def tiny() -> nn.Module:
    """8×8 images of one channel from a 1×1 latent of 12."""
    return nn.Sequential(
        nn.ConvTranspose2d(12, 16, 4, 1, 0, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 4, 2, 1),
        nn.Tanh(),
    )


def not_a_module() -> int:
    return 3
