"""Generators from pictures to pictures: skips, instance norms, pixel shuffles, spatial modulation."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from prunability.zoo.case import Residual, case, floats
from torch import Tensor, nn

W = 16


@case("translation", floats("x", 3, 16, 16), fast=True)
class Pix2Pix(nn.Module):
    """Isola et al. 2017: a U-Net of strided and transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        c = (3, W, 2 * W, 2 * W)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(c))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in c[1:])
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in ((2 * W, 2 * W), (4 * W, W), (2 * W, 3))
        )

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for conv, norm in zip(self.down, self.norms, strict=True):
            x = norm(conv(F.leaky_relu(x, 0.2)))
            kept.append(x)
        h = self.up[0](F.relu(kept[2]))
        h = self.up[1](F.relu(torch.cat([h, kept[1]], 1)))
        return torch.tanh(self.up[2](F.relu(torch.cat([h, kept[0]], 1))))


@case("translation", floats("x", 3, 16, 16))
def cyclegan() -> nn.Module:
    """Zhu et al. 2017 after Johnson et al. 2016: reflection padding and instance norms."""

    def block() -> nn.Module:
        body = [nn.ReflectionPad2d(1), nn.Conv2d(2 * W, 2 * W, 3), nn.InstanceNorm2d(2 * W), nn.ReLU()]
        return Residual(*body, nn.ReflectionPad2d(1), nn.Conv2d(2 * W, 2 * W, 3), nn.InstanceNorm2d(2 * W))

    return nn.Sequential(
        nn.ReflectionPad2d(3), nn.Conv2d(3, W, 7), nn.InstanceNorm2d(W), nn.ReLU(),
        nn.Conv2d(W, 2 * W, 3, 2, 1), nn.InstanceNorm2d(2 * W, affine=True), nn.ReLU(), block(), block(),
        nn.ConvTranspose2d(2 * W, W, 3, 2, 1, 1), nn.InstanceNorm2d(W), nn.ReLU(),
        nn.ReflectionPad2d(3), nn.Conv2d(W, 3, 7), nn.Tanh(),
    )  # fmt: skip


@case("translation", floats("x", 3, 8, 8))
def srgan() -> nn.Module:
    """Ledig et al. 2017: PReLU and sub-pixel convolutions."""

    def block() -> nn.Module:
        first = [nn.Conv2d(W, W, 3, padding=1), nn.BatchNorm2d(W), nn.PReLU(W)]
        return Residual(*first, nn.Conv2d(W, W, 3, padding=1), nn.BatchNorm2d(W))

    return nn.Sequential(
        nn.Conv2d(3, W, 5, padding=2), nn.PReLU(), Residual(block(), block(), nn.Conv2d(W, W, 3, padding=1)),
        nn.Conv2d(W, 4 * W, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(W), nn.Conv2d(W, 3, 5, padding=2),
    )  # fmt: skip


class Dense(nn.Module):
    """Five convolutions, each of all before it."""

    def __init__(self, c: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(c + i * growth, growth if i < 3 else c, 3, padding=1) for i in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for conv in self.convs:
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), 0.2))
        return x + 0.2 * seen[-1]


@case("translation", floats("x", 3, 8, 8))
def esrgan() -> nn.Module:
    """Wang et al. 2018: residual-in-residual dense blocks."""
    return nn.Sequential(
        nn.Conv2d(3, W, 3, padding=1), Residual(Dense(W, 8), Dense(W, 8)), nn.Upsample(scale_factor=2.0),
        nn.Conv2d(W, W, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(W, 3, 3, padding=1),
    )  # fmt: skip


class Spade(nn.Module):
    """Park et al. 2019: scale and shift of a norm from a map."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c, affine=False)
        self.shared = nn.Conv2d(4, 12, 3, padding=1)
        self.gamma, self.beta = nn.Conv2d(12, c, 3, padding=1), nn.Conv2d(12, c, 3, padding=1)

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        h = F.relu(self.shared(F.interpolate(m, size=x.shape[2:])))
        return self.norm(x) * (1 + self.gamma(h)) + self.beta(h)


@case("translation", floats("z", 12), floats("map", 4, 16, 16))
class GauGAN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(12, 2 * W * 16)
        self.spade1, self.conv1 = Spade(2 * W), nn.Conv2d(2 * W, W, 3, padding=1)
        self.spade2, self.conv2 = Spade(W), nn.Conv2d(W, W, 3, padding=1)
        self.last = nn.Conv2d(W, 3, 3, padding=1)

    def forward(self, z: Tensor, m: Tensor) -> Tensor:
        h = self.start(z).view(-1, 2 * W, 4, 4)
        h = self.conv1(F.leaky_relu(self.spade1(F.interpolate(h, scale_factor=2.0), m), 0.2))
        h = h + self.conv2(F.leaky_relu(self.spade2(h, m), 0.2))
        return torch.tanh(self.last(F.interpolate(h, scale_factor=2.0)))


@case("translation", floats("x", 3, 8, 8), floats("style", 3, 8, 8))
class AdaIN(nn.Module):
    """Huang and Belongie 2017: the statistics of one feature map for another."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, W, 3, padding=1), nn.ReLU(), nn.Conv2d(W, 2 * W, 3, 2, 1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(2 * W, W, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2.0),
            nn.Conv2d(W, 3, 3, padding=1),
        )

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        a, b = self.encoder(x), self.encoder(style)
        mean, std = a.mean((2, 3), keepdim=True), (a.var((2, 3), keepdim=True) + 1e-5).sqrt()
        a = (a - mean) / std * (b.var((2, 3), keepdim=True) + 1e-5).sqrt() + b.mean((2, 3), keepdim=True)
        return self.decoder(a)
