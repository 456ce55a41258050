"""Glow (Kingma & Dhariwal 2018): activation normalization, invertible 1×1 convolutions, couplings, scales."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from pydantic import Field
from torch import nn

from niwaki.core.contract import CallError
from niwaki.models.flow.flow_model import FlowConfig, FlowModel
from niwaki.models.flow.image_layers import ChannelNorm, ConvCoupling, InvertibleMix, OnImage, Scale, Squeeze
from niwaki.models.flow.networks import ConvNetwork
from niwaki.models.flow.transforms import transform_of
from niwaki.models.registry import register
from niwaki.nn.layers.images import image_shape

__all__ = ["Glow", "GlowConfig", "multi_scale"]


class GlowConfig(FlowConfig):
    """
    levels:   scales; at each the image is halved, and half of what comes out is split off
    layers:   of each level: normalization, mixing of channels, coupling
    width:    channels of the networks in couplings
    dropout:  share of them that is left out in training
    coupling: `affine`, `additive` or `spline`
    bins:     segments of a spline
    """

    levels: int = Field(2, ge=1)
    layers: int = Field(4, ge=1)
    width: int = Field(64, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    coupling: Literal["affine", "additive", "spline"] = "affine"
    bins: int = Field(8, ge=2, le=64)


@register("glow")
class Glow(FlowModel):
    """A multi-scale flow on images; all latents of all scales are z, so that nothing is lost on the way back.

    config: GlowConfig
    spec:   images `(C, H, W)`, both sides divisible by 2 for every level
    """

    Config = GlowConfig
    config: GlowConfig

    def layers(self) -> list[nn.Module]:
        c = self.config
        return multi_scale(image_shape(self.spec, self.name), c.levels, c.layers, self._coupling)

    def _coupling(self, shape: tuple[int, int, int]) -> ConvCoupling:
        c = self.config
        network = partial(ConvNetwork, width=c.width, classes=self.classes, dropout=c.dropout)
        return ConvCoupling(shape, transform_of(c.coupling, bins=c.bins), network)


def multi_scale(
    shape: tuple[int, int, int],
    levels: int,
    layers: int,
    coupling: Callable[[tuple[int, int, int]], ConvCoupling],
) -> list[nn.Module]:
    """Scales of images `(C, H, W)`: at each the image is halved, `layers` times normalized, mixed and
    coupled, and half of it split off. Raises CallError for sides that cannot be halved so often."""
    if shape[1] % (1 << levels) or shape[2] % (1 << levels):
        raise CallError(f"images of {shape[1]}×{shape[2]} cannot be halved {levels} times for 'levels'")
    scales: list[nn.Module] = []
    for level in range(levels):
        parts: list[OnImage] = [Squeeze(shape)]
        begun, shape = shape, parts[0].after
        for _ in range(layers):
            parts += [ChannelNorm(shape), InvertibleMix(shape), coupling(shape)]
        # What is split off is brought to N(0, 1) given what goes on: a coupling like any other.
        parts.append(coupling(shape) if level + 1 < levels else ChannelNorm(shape))
        scales.append(Scale(begun, parts))
        shape = ((shape[0] + 1) // 2, *shape[1:])
    return scales
