"""An autoencoder whose latents are small images: what latent diffusion stands on (Rombach et al. 2022)."""

from __future__ import annotations

import math

from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import CallError, Real, ValueSpec
from niwaki.models.registry import register
from niwaki.models.vae.networks import Unit
from niwaki.models.vae.vae import Vae, VaeConfig
from niwaki.nn.layers.blocks import conv_norm, conv_up
from niwaki.nn.layers.images import Squash

__all__ = ["SpatialDecoder", "SpatialVae", "SpatialVaeConfig", "halving_layers"]


class SpatialVaeConfig(VaeConfig):
    """
    latent:   channels of z
    halvings: how often height and width are halved
    width:    channels at full size; doubled at every halving
    `hidden`, `embedding` and `conditional` mean nothing here: no class is looked at
    other settings: as in `VaeConfig`
    """

    latent: int = Field(4, ge=1)
    halvings: int = Field(2, ge=1)
    width: int = Field(16, ge=1)


def halving_layers(channels: int, width: int, halvings: int) -> tuple[nn.Sequential, int]:
    """Images `(n, channels, H, W)` → `(n, k, H/2^halvings, W/2^halvings)`, and how many channels k is."""
    layers = conv_norm(channels, width)
    for i in range(halvings):
        layers += [
            nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width * 2 ** (i + 1)),
            nn.ReLU(),
        ]
    last = width * 2**halvings
    return nn.Sequential(*layers, *conv_norm(last, last)), last


class SpatialEncoder(nn.Module):
    """x in [−1, 1] `(n, C, H, W)` → mean and log-variance of q(z | x), each `(n, latent, H/2^k, W/2^k)`."""

    def __init__(self, channels: int, *, latent: int, width: int, halvings: int) -> None:
        super().__init__()
        self.body, last = halving_layers(channels, width, halvings)
        self.mean = nn.Conv2d(last, latent, 1)
        self.log_var = nn.Conv2d(last, latent, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.mean(h), self.log_var(h).clamp(-12.0, 12.0)


class SpatialDecoder(nn.Module):
    """z `(n, latent, h, w)` → the mean of p(x | z) in [low, high]; `raw` gives what a likelihood wants."""

    def __init__(
        self,
        channels: int,
        *,
        latent: int,
        width: int,
        halvings: int,
        upsampling: str,
        unit: bool,
        low: float,
        high: float,
    ) -> None:
        super().__init__()
        layers = conv_norm(latent, width * 2**halvings)
        for i in reversed(range(halvings)):
            layers += conv_up(width * 2 ** (i + 1), width * 2**i, upsampling=upsampling)
        self.body = nn.Sequential(*layers)
        self.output = nn.Conv2d(width, channels, 3, padding=1)
        self.link = nn.Identity() if unit else Squash(low, high)
        self.finish = Unit(low, high) if unit else nn.Identity()

    def raw(self, z: Tensor) -> Tensor:
        """Logits (Bernoulli) or mean (Gaussian) `(n, C, H, W)`."""
        return self.link(self.output(self.body(z)))

    def forward(self, z: Tensor) -> Tensor:
        return self.finish(self.raw(z))


@register("spatial-vae")
class SpatialVae(Vae):
    """A VAE whose code is an image of a few channels: the autoencoder of latent diffusion.

    Sharp where `vae` is blurred, for nothing passes through a narrow vector; what `sample` draws without a
    prior of its own has no global shape in return.

    config: SpatialVaeConfig
    spec:   images `(C, H, W)`, height and width multiples of 2^halvings
    """

    Config = SpatialVaeConfig
    config: SpatialVaeConfig

    @property
    def latent(self) -> ValueSpec:
        _, height, width = self.spec.shape
        down = 2**self.config.halvings
        shape = (self.config.latent, height // down, width // down)
        return ValueSpec("image", shape, "CHW", Real(-math.inf, math.inf))

    def _classes(self) -> int:
        return 0

    def _networks(self, shape: tuple[int, int, int]) -> tuple[nn.Module, nn.Module]:
        c, (channels, height, width) = self.config, shape
        if height % 2**c.halvings or width % 2**c.halvings:
            raise CallError(
                f"{height}×{width} pixels cannot be halved {c.halvings} times; lower model.halvings"
            )
        same = {"latent": c.latent, "width": c.width, "halvings": c.halvings}
        decoder = SpatialDecoder(
            channels,
            **same,
            upsampling=c.upsampling,
            unit=self.likelihood.unit,
            low=self.spec.low,
            high=self.spec.high,
        )
        return SpatialEncoder(channels, **same), decoder
