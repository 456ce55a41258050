"""R3GAN (Huang, Gokaslan, Kuleshov & Tompkin 2024): a relativistic loss, R1 and R2, residual networks."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import CallError, DataSpec
from niwaki.models.gan.adversarial import AdversarialModel
from niwaki.models.gan.config import AdversarialConfig, Gamma, Objectives
from niwaki.models.gan.networks import Projection, widths
from niwaki.models.registry import register
from niwaki.nn.layers.blocks import Unflatten, pyramid
from niwaki.nn.layers.images import Squash, image_shape

__all__ = ["R3gan", "R3ganConfig"]

_SLOPE = 0.2


class R3ganConfig(AdversarialConfig):
    """
    latent:    length of z
    embedding: length of a class embedding in the generator
    width:     channels at full size; doubled at every halving, up to `max_width`
    blocks:    residual blocks at each size
    expansion: hidden channels of a block, as a multiple of its channels
    group:     hidden channels that each group of the 3×3 convolution sees
    patch:     edge in pixels of what both networks treat as one place: 32×32 pixels in patches of 2 cost as
               much as 16×16
    """

    objective: Objectives = "relativistic"
    r1: Gamma = 0.5
    r2: Gamma = 0.5
    r1_every: int = Field(1, ge=1)
    latent: int = Field(64, ge=1)
    embedding: int = Field(32, ge=1)
    width: int = Field(32, ge=1)
    max_width: int = Field(128, ge=1)
    blocks: int = Field(1, ge=1)
    expansion: int = Field(2, ge=1)
    group: int = Field(16, ge=1)
    patch: int = Field(1, ge=1)


def _scaled(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, gain: float = 1.0) -> nn.Module:
    """Normal weights of variance gain² / inputs, no bias: variance-preserving without a normalization."""
    inputs = layer.weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):  # of each pixel, on average: its kernels overlap
        inputs = layer.weight[:, 0].numel() // math.prod(layer.stride)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(inputs))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _sizes(shape: tuple[int, ...], patch: int) -> list[tuple[int, int]]:
    """Heights and widths in patches, the coarsest first. Raises CallError where an image is no whole number
    of patches, at least 4×4."""
    _, height, width = shape
    if height % patch or width % patch or min(height, width) // patch < 4:
        raise CallError(
            f"'patch' {patch} does not divide images of {height}×{width} pixels into 4×4 patches or more"
        )
    return pyramid(height // patch, width // patch)


def _to_pixels(inputs: int, channels: int, patch: int) -> nn.Module:
    """`(n, inputs, h, w)` → `(n, channels, patch·h, patch·w)`: neighbours overlap, so that no seams show."""
    if patch == 1:
        return _scaled(nn.Conv2d(inputs, channels, 1))
    margin = patch // 2
    return _scaled(nn.ConvTranspose2d(inputs, channels, patch + 2 * margin, stride=patch, padding=margin))


def _of_pixels(channels: int, outputs: int, patch: int) -> nn.Module:
    """The way back of `_to_pixels`."""
    margin = patch // 2
    return _scaled(nn.Conv2d(channels, outputs, patch + 2 * margin, stride=patch, padding=margin))


class Block(nn.Module):
    """x + W₃ a(W₂ a(W₁ x)), 1×1, grouped 3×3, 1×1; W₃ starts at zero (Zhang et al. 2019, Fixup)."""

    residual_ends: ClassVar[tuple[str, ...]] = ("body",)

    def __init__(self, channels: int, *, expansion: int, group: int) -> None:
        super().__init__()
        hidden = channels * expansion
        groups = hidden // group if hidden % group == 0 else 1
        gain = math.sqrt(2 / (1 + _SLOPE**2))
        self.body = nn.Sequential(
            _scaled(nn.Conv2d(channels, hidden, 1), gain),
            nn.LeakyReLU(_SLOPE),
            _scaled(nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups), gain),
            nn.LeakyReLU(_SLOPE),
            _scaled(nn.Conv2d(hidden, channels, 1, bias=False), 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Resize(nn.Module):
    """A 1×1 convolution where channels differ, and twice or half the size by interpolation."""

    def __init__(self, inputs: int, outputs: int, scale: float) -> None:
        super().__init__()
        self.up = scale > 1
        self.channels = (
            nn.Identity() if inputs == outputs else _scaled(nn.Conv2d(inputs, outputs, 1, bias=False))
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.up:  # fewer products: channels first, then places
            return F.interpolate(self.channels(x), scale_factor=2.0, mode="nearest")
        return self.channels(F.avg_pool2d(x, 2))


class _Generator(nn.Module):
    """z `(n, latent)`, classes `(n,)` → images `(n, C, H, W)` in the data's range."""

    def __init__(self, config: R3ganConfig, spec: DataSpec, classes: int) -> None:
        super().__init__()
        shape = tuple(spec.shape)
        sizes = _sizes(shape, config.patch)
        w = widths(config.width, len(sizes), config.max_width)
        h, c = sizes[0]
        self.embed = nn.Embedding(classes, config.embedding) if classes else None
        inputs = config.latent + (config.embedding if classes else 0)
        self.stem = nn.Sequential(_scaled(nn.Linear(inputs, w[0] * h * c)), Unflatten(h, c))
        body: list[nn.Module] = []
        for i, channels in enumerate(w):
            if i:
                body.append(_Resize(w[i - 1], channels, 2))
            body += [
                Block(channels, expansion=config.expansion, group=config.group) for _ in range(config.blocks)
            ]
        self.body = nn.Sequential(*body)
        self.output = nn.Sequential(_to_pixels(w[-1], shape[0], config.patch), Squash(spec.low, spec.high))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(y)], dim=1)
        return self.output(self.body(self.stem(z)))


class _Discriminator(Projection):
    """Of images: the generator's blocks backwards."""

    def __init__(self, config: R3ganConfig, shape: tuple[int, int, int], classes: int, *, bias: bool) -> None:
        super().__init__()
        sizes = _sizes(shape, config.patch)
        w = widths(config.width, len(sizes), config.max_width)[::-1]
        layers: list[nn.Module] = [_of_pixels(shape[0], w[0], config.patch)]
        for i, channels in enumerate(w):
            if i:
                layers.append(_Resize(w[i - 1], channels, 0.5))
            layers += [
                Block(channels, expansion=config.expansion, group=config.group) for _ in range(config.blocks)
            ]
        h, c = sizes[0]
        # Every channel is summed over places with weights of its own (the paper's "discriminative basis").
        layers += [_scaled(nn.Conv2d(w[-1], w[-1], (h, c), groups=w[-1], bias=False)), nn.Flatten()]
        self.features = nn.Sequential(*layers)
        self.logit = _scaled(nn.Linear(w[-1], 1, bias=bias))
        self.embed = nn.Embedding(classes, w[-1]) if classes else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=w[-1] ** -0.5)


@register("r3gan")
class R3gan(AdversarialModel):
    """Residual networks without normalization; R1 and R2 on raw images, the last convolution of a block zero.

    config: R3ganConfig
    spec:   images `(C, H, W)` of at least 4×4, or as many patches
    """

    Config = R3ganConfig
    config: R3ganConfig

    def __init__(self, config: R3ganConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        shape = image_shape(spec, self.name)
        critic = _Discriminator(config, shape, self.classes, bias=self.objective.levelled)
        self.play(_Generator(config, spec, self.classes), critic, latent=config.latent)
