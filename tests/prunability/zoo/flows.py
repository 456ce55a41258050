"""Invertible networks: only what computes shifts and scales can become narrower."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from prunability.zoo.case import case, floats
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

D = 8


@case("flow", floats("z", D))
class NICE(nn.Module):
    """Dinh et al. 2015: additive couplings, one scale per dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Linear(D // 2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, D // 2)
            )
            for _ in range(4)
        )
        self.scale = nn.Parameter(0.1 * torch.randn(D))

    def forward(self, z: Tensor) -> Tensor:
        a, b = (z * torch.exp(-self.scale)).chunk(2, 1)
        for net in reversed(self.nets):
            a, b = b - net(a), a
        return torch.cat([a, b], 1)


class Masked(nn.Module):
    """One affine coupling over a checkerboard (Dinh et al. 2017)."""

    def __init__(self, parity: int) -> None:
        super().__init__()
        board = (torch.arange(8)[:, None] + torch.arange(8)[None]) % 2 == parity
        self.register_buffer("mask", board.float()[None, None])
        self.body = nn.Sequential(
            weight_norm(nn.Conv2d(1, 24, 3, padding=1)), nn.BatchNorm2d(24), nn.ReLU(),
            weight_norm(nn.Conv2d(24, 24, 1)), nn.ReLU(), weight_norm(nn.Conv2d(24, 2, 3, padding=1)),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        s, t = (self.body(x * self.mask) * (1 - self.mask)).chunk(2, 1)
        return (x - t) * torch.exp(-torch.tanh(s))


@case("flow", floats("z", 1, 8, 8), fast=True)
def real_nvp() -> nn.Module:
    return nn.Sequential(Masked(0), Masked(1), Masked(0))


class GlowStep(nn.Module):
    """Kingma and Dhariwal 2018, inverse: coupling, 1×1 convolution, actnorm."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.inverse = nn.Parameter(torch.linalg.qr(torch.randn(c, c))[0])
        self.scale, self.shift = nn.Parameter(torch.ones(1, c, 1, 1)), nn.Parameter(torch.zeros(1, c, 1, 1))
        self.net = nn.Sequential(
            nn.Conv2d(c // 2, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 1),
            nn.ReLU(),
            nn.Conv2d(32, c, 3, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        a, b = z.chunk(2, 1)
        s, t = self.net(a).chunk(2, 1)
        z = torch.cat([a, b / torch.sigmoid(s + 2) - t], 1)
        return F.conv2d(z, self.inverse[:, :, None, None]) * self.scale + self.shift


@case("flow", floats("z", 4, 4, 4))
def glow() -> nn.Module:
    """Two steps and the unsqueeze after them."""
    return nn.Sequential(GlowStep(4), GlowStep(4), nn.PixelShuffle(2))


class MaskedLinear(nn.Linear):
    """Germain et al. 2015."""

    def __init__(self, before: Tensor, after: Tensor, strict: bool) -> None:
        super().__init__(len(before), len(after))
        seen = after[:, None] > before[None] if strict else after[:, None] >= before[None]
        self.register_buffer("mask", seen.float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


def made(d: int, w: int) -> nn.Module:
    order, hidden = torch.arange(d), torch.arange(w) % (d - 1)
    return nn.Sequential(
        MaskedLinear(order, hidden, False), nn.ReLU(), MaskedLinear(hidden, hidden, False), nn.ReLU(),
        MaskedLinear(hidden, torch.cat([order, order]), True),
    )  # fmt: skip


@case("flow", floats("x", D), fast=True)
class MAF(nn.Module):
    """Papamakarios et al. 2017: the masks must be cut with the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(made(D, 28) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            shift, scale = layer(x).chunk(2, 1)
            x = ((x - shift) * torch.exp(-torch.tanh(scale))).flip(1)
        return x
