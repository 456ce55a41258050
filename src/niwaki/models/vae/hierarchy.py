"""Networks of a hierarchical VAE: features from fine to coarse, and stochastic layers from coarse to fine on
a residual path that all of them share (Sønderby et al. 2016; Child 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.nn.layers.dropout import Dropout

__all__ = ["BottomUp", "Gaussian", "TopDownLayer", "assign_sizes"]


def assign_sizes(layers: int, sizes: int) -> tuple[int, ...]:
    """The size of each layer, from the coarsest (0): as many at each as can be, more where it is finer.

    >>> assign_sizes(6, 4)
    (0, 1, 1, 2, 3, 3)
    """
    return tuple(sizes - 1 - (layers - 1 - i) * sizes // layers for i in range(layers))


def _kernel(size: tuple[int, int]) -> int:
    """Where a side has one or two pixels, a wider kernel would see padding most of all."""
    return 3 if min(size) > 2 else 1


def _conv(inputs: int, outputs: int, kernel: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class Residual(nn.Module):
    """h + f(h) at one size; f begins small, so that a deep path begins as its skip.

    depth: residual branches that add up on the path
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("last",)

    def __init__(self, width: int, inner: int, size: tuple[int, int], *, depth: int, dropout: float) -> None:
        super().__init__()
        kernel = _kernel(size)
        self.first, self.second = _conv(width, inner, 1), _conv(inner, inner, kernel)
        self.drop = Dropout(dropout)
        self.last = _conv(inner, width)
        with torch.no_grad():
            self.last.weight.mul_(1.0 / math.sqrt(depth))

    def forward(self, h: Tensor) -> Tensor:
        f = F.silu(self.second(F.silu(self.first(F.silu(h)))))
        out: Tensor = h + self.last(self.drop(f))
        return out


class BottomUp(nn.Module):
    """x in [−1, 1] `(n, C, H, W)` → features of every size `(n, width, h, w)`, the coarsest first.

    sizes:  from the coarsest to the image's own, each twice the one before
    blocks: residual branches at each size
    """

    def __init__(
        self, channels: int, sizes: list[tuple[int, int]], *, width: int, inner: int, blocks: int,
        dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.enter = _conv(channels, width, 3)
        depth = blocks * len(sizes)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Residual(width, inner, s, depth=depth, dropout=dropout) for _ in range(blocks)))
            for s in reversed(sizes)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        h, found = self.enter(x), []
        for i, stage in enumerate(self.stages):
            h = stage(F.avg_pool2d(h, 2) if i else h)
            found.append(h)
        return found[::-1]


@dataclass(frozen=True)
class Gaussian:
    """A diagonal normal distribution: mean and log σ, float32, of the same shape."""

    mean: Tensor
    log_scale: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """mean + σ·noise"""
        return self.mean + self.log_scale.exp() * noise

    def standard(self) -> Gaussian:
        """N(0, 1) of the same shape."""
        return Gaussian(torch.zeros_like(self.mean), torch.zeros_like(self.log_scale))

    def noise_of(self, z: Tensor) -> Tensor:
        """(z − mean)/σ: what `at` makes z of."""
        return (z - self.mean) * torch.exp(-self.log_scale)

    def divergence(self, other: Gaussian) -> Tensor:
        """KL(self ‖ other) in nats, by value."""
        ratio = self.log_scale - other.log_scale
        apart = (self.mean - other.mean) * torch.exp(-other.log_scale)
        return 0.5 * (torch.exp(2.0 * ratio) + apart.square() - 1.0) - ratio

    def log_ratio(self, other: Gaussian, noise: Tensor) -> Tensor:
        """log self(z) − log other(z) at z = self.at(noise), by value."""
        there = other.noise_of(self.at(noise))
        return 0.5 * (there.square() - noise.square()) + other.log_scale - self.log_scale


class _Moments(nn.Module):
    """Features → mean and log σ of a layer's latents."""

    def __init__(self, inner: int, latent: int) -> None:
        super().__init__()
        self.mean, self.log_scale = _conv(inner, latent), _conv(inner, latent)
        for layer in (self.mean, self.log_scale):  # begins near N(0, 1): no latent says anything
            nn.init.normal_(layer.weight, std=0.1 / math.sqrt(inner))
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor) -> Gaussian:
        # σ between e^−5 and e^2, and smooth at 0
        return Gaussian(self.mean(h).float(), self.log_scale(h).float().clamp(-5.0, 2.0))


class TopDownLayer(nn.Module):
    """One stochastic layer: p(z | h) and q(z | h, features) by two networks, and h ← f(h + g(z)).

    first: of the topmost layer, before which there is no h: its prior is N(0, 1)
    """

    def __init__(
        self, width: int, inner: int, latent: int, size: tuple[int, int], *, first: bool, depth: int,
        dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.size, self.latent = size, latent
        kernel = _kernel(size)
        if not first:
            self.prior_in, self.prior_mid = _conv(width, inner), _conv(inner, inner, kernel)
            self.prior = _Moments(inner, latent)
            self.posterior_path = _conv(width, inner)
        self.first = first
        self.posterior_in, self.posterior_mid = _conv(width, inner), _conv(inner, inner, kernel)
        self.posterior = _Moments(inner, latent)
        self.drop = Dropout(dropout)
        self.enter = _conv(latent, width)
        with torch.no_grad():
            self.enter.weight.mul_(1.0 if first else 1.0 / math.sqrt(depth))
        self.body = Residual(width, inner, size, depth=depth, dropout=dropout)

    def prior_of(self, h: Tensor) -> Gaussian:
        """p(z | what is above)."""
        f = F.silu(self.prior_mid(F.silu(self.prior_in(F.silu(h)))))
        return self.prior(self.drop(f))  # type: ignore[no-any-return]

    def posterior_of(self, h: Tensor | None, features: Tensor) -> Gaussian:
        """q(z | what is above, x)."""
        f = self.posterior_in(F.silu(features))
        if h is not None:
            f = f + self.posterior_path(F.silu(h))
        f = F.silu(self.posterior_mid(F.silu(f)))
        return self.posterior(self.drop(f))  # type: ignore[no-any-return]

    def add(self, h: Tensor | None, z: Tensor) -> Tensor:
        """The path below this layer."""
        told = self.enter(z)
        return self.body(told if h is None else h + told)  # type: ignore[no-any-return]
