"""Glow (Kingma & Dhariwal 2018): activation normalization, invertible 1×1 convolutions, couplings, scales."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from niwaki.core.contract import CallError
from niwaki.models.flow.flow_model import FlowConfig, FlowModel
from niwaki.models.flow.image_layers import ChannelNorm, ConvCoupling, InvertibleMix, Squeeze
from niwaki.models.flow.transforms import transform_of
from niwaki.models.registry import register
from niwaki.nn.layers.images import image_shape

__all__ = ["Glow", "GlowConfig"]


class GlowConfig(FlowConfig):
    """
    levels:   scales; at each the image is halved, and half of what comes out is split off
    layers:   of each level: normalization, mixing of channels, coupling
    width:    channels of the networks in couplings
    coupling: `affine`, `additive` or `spline`
    bins:     segments of a spline
    """

    levels: int = Field(2, ge=1)
    layers: int = Field(4, ge=1)
    width: int = Field(64, ge=1)
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
        c, shape = self.config, image_shape(self.spec, self.name)
        if shape[1] % (1 << c.levels) or shape[2] % (1 << c.levels):
            raise CallError(f"images of {shape[1]}×{shape[2]} cannot be halved {c.levels} times for 'levels'")
        layers: list[nn.Module] = []
        for level in range(c.levels):
            squeeze = Squeeze(shape)
            shape = squeeze.after
            layers.append(squeeze)
            for _ in range(c.layers):
                layers += [ChannelNorm(shape), InvertibleMix(shape), self._coupling(shape)]
            if level + 1 < c.levels:
                # What is split off is brought to N(0, 1) given what goes on: a coupling like any other.
                layers.append(self._coupling(shape))
                shape = ((shape[0] + 1) // 2, *shape[1:])
        return [*layers, ChannelNorm(shape)]

    def _coupling(self, shape: tuple[int, int, int]) -> ConvCoupling:
        c = self.config
        move = transform_of(c.coupling, bins=c.bins)
        return ConvCoupling(shape, move, width=c.width, classes=self.classes)
