"""Bodies that generators borrow: inverted residuals, shuffles, dense and grouped blocks, mixers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from prunability.zoo.case import Residual, case, floats
from torch import Tensor, nn

W = 16
IMAGE = floats("x", 3, 8, 8)


@case("backbone", IMAGE)
def mobilenet_v2() -> nn.Module:
    """Sandler et al. 2018."""

    def inverted(c: int) -> nn.Module:
        wide = 4 * c
        return Residual(
            nn.Conv2d(c, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6(), nn.Conv2d(wide, wide, 3,
            padding=1, groups=wide),
            nn.BatchNorm2d(wide), nn.ReLU6(), nn.Conv2d(wide, c, 1), nn.BatchNorm2d(c),
        )  # fmt: skip

    return nn.Sequential(nn.Conv2d(3, W, 3, padding=1), inverted(W), inverted(W), nn.Conv2d(W, 3, 1))


class Shuffle(nn.Module):
    """Zhang et al. 2018: grouped 1×1 convolutions with the channels dealt anew between them."""

    def __init__(self, c: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.first, self.last = nn.Conv2d(c, c, 1, groups=groups), nn.Conv2d(c, c, 1, groups=groups)
        self.depth, self.norm = nn.Conv2d(c, c, 3, padding=1, groups=c), nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        h = h.view(h.shape[0], self.groups, -1, *h.shape[2:]).transpose(1, 2).flatten(1, 2)
        return x + self.last(self.norm(self.depth(h)))


@case("backbone", IMAGE, fast=True)
def shufflenet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), Shuffle(24, 2), Shuffle(24, 2), nn.Conv2d(24, 3, 1))


class Halves(nn.Module):
    """ShuffleNet V2 (Ma et al. 2018): one half passes, the other is worked on."""

    def __init__(self, c: int) -> None:
        super().__init__()
        h = c // 2
        self.body = nn.Sequential(
            nn.Conv2d(h, h, 1), nn.BatchNorm2d(h), nn.ReLU(), nn.Conv2d(h, h, 3, padding=1, groups=h)
        )

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([a, self.body(b)], 1).unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


@case("backbone", IMAGE)
def shufflenet_v2() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), Halves(32), Halves(32), nn.Conv2d(32, 3, 1))


@case("backbone", IMAGE)
class DenseNet(nn.Module):
    """Huang et al. 2017."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, W, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(W + 8 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(W + 8 * i, 8, 3, padding=1) for i in range(3))
        self.last = nn.Conv2d(W + 24, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = torch.cat([h, conv(F.relu(norm(h)))], 1)
        return self.last(h)


@case("backbone", IMAGE)
def resnext() -> nn.Module:
    """Xie et al. 2017."""

    def block(c: int) -> nn.Module:
        return Residual(
            nn.Conv2d(c, 32, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1, groups=4),
            nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, c, 1), nn.BatchNorm2d(c),
        )  # fmt: skip

    return nn.Sequential(nn.Conv2d(3, W, 3, padding=1), block(W), block(W), nn.Conv2d(W, 3, 1))


class LayerNorm2d(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(c)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    """Liu et al. 2022, with the response norm of V2 (Woo et al. 2023)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.depth, self.norm = nn.Conv2d(c, c, 7, padding=3, groups=c), LayerNorm2d(c)
        self.up, self.down = nn.Conv2d(c, 4 * c, 1), nn.Conv2d(4 * c, c, 1)
        self.gamma, self.beta = (
            nn.Parameter(torch.ones(1, 4 * c, 1, 1)),
            nn.Parameter(torch.zeros(1, 4 * c, 1, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.up(self.norm(self.depth(x))))
        size = h.square().sum((2, 3), keepdim=True).sqrt()
        return x + self.down(h + self.beta + self.gamma * h * size / (size.mean(1, keepdim=True) + 1e-6))


@case("backbone", IMAGE)
def convnext_v2() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, W, 3, padding=1), ConvNext(W), ConvNext(W), nn.Conv2d(W, 3, 1))


class Mixer(nn.Module):
    """Tolstikhin et al. 2021: one MLP over the tokens, one over the channels."""

    def __init__(self, tokens: int, c: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.tokens = nn.Sequential(nn.Linear(tokens, 32), nn.GELU(), nn.Linear(32, tokens))
        self.channels = nn.Sequential(nn.Linear(c, 48), nn.GELU(), nn.Linear(48, c))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


@case("backbone", IMAGE)
class MlpMixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.body = nn.Conv2d(3, 24, 2, 2), nn.Sequential(Mixer(16, 24), Mixer(16, 24))
        self.last = nn.Linear(24, 12)

    def forward(self, x: Tensor) -> Tensor:
        h = self.last(self.body(self.patches(x).flatten(2).transpose(1, 2)))
        return F.pixel_shuffle(h.transpose(1, 2).unflatten(2, (4, 4)), 2)


@case("backbone", floats("x", 1, 4, 8, 8))
def unet_3d() -> nn.Module:
    """Residual 3-D convolutions, as video models have them."""

    def block(c: int) -> nn.Module:
        return Residual(nn.GroupNorm(4, c), nn.SiLU(), nn.Conv3d(c, c, 3, padding=1))

    return nn.Sequential(
        nn.Conv3d(1, W, 3, padding=1), block(W), nn.Conv3d(W, 2 * W, 3, (1, 2, 2), 1), block(2 * W),
        nn.ConvTranspose3d(2 * W, W, (1, 2, 2), (1, 2, 2)), block(W), nn.Conv3d(W, 1, 3, padding=1),
    )  # fmt: skip
