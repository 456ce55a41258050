"""RealNVP (Dinh, Sohl-Dickstein & Bengio 2017): couplings on flattened samples, affine or others."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from niwaki.models.flow.flow_model import FlowConfig, FlowModel
from niwaki.models.flow.layers import ActNorm, Coupling
from niwaki.models.flow.masks import coupling_masks
from niwaki.models.flow.transforms import transform_of
from niwaki.models.registry import register, register_preset

__all__ = ["RealNvp", "RealNvpConfig"]


class RealNvpConfig(FlowConfig):
    """
    layers:    coupling layers; two that follow each other move all values
    width:     hidden units of each conditioner
    depth:     hidden layers of each conditioner
    dropout:   share of hidden units left out in training
    coupling:  `affine`, `additive` as in NICE, or `spline`
    bins:      segments of a spline
    actnorm:   scale and shift all values after every second layer; after the last one it is always done
    """

    layers: int = Field(8, ge=2)
    width: int = Field(128, ge=1)
    depth: int = Field(2, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    coupling: Literal["affine", "additive", "spline"] = "affine"
    bins: int = Field(8, ge=2, le=64)
    actnorm: bool = True


register_preset(
    "nice",
    "realnvp",
    "NICE (Dinh, Krueger & Bengio 2015): additive couplings, one scaling at the end",
    coupling="additive",
    actnorm=False,
)


register_preset(
    "neural-spline",
    "realnvp",
    "Neural spline flow (Durkan et al. 2019): couplings by rational-quadratic splines",
    coupling="spline",
)


@register("realnvp")
class RealNvp(FlowModel):
    """An invertible network of coupling layers, with an exact density in one call.

    config: RealNvpConfig
    spec:   amounts or levels of any shape, of two values or more; what has no bounds has no histograms, and
            begins with activation normalization instead
    """

    Config = RealNvpConfig
    small_matrices = True
    config: RealNvpConfig

    def layers(self) -> list[nn.Module]:
        c, x = self.config, self.spec.x
        layers: list[nn.Module] = [] if self.bounded else [ActNorm(x.size)]
        for i, mask in enumerate(coupling_masks(x.shape, c.layers)):
            conditioner = {"width": c.width, "depth": c.depth, "classes": self.classes, "dropout": c.dropout}
            move = transform_of(c.coupling, bins=c.bins)
            layers.append(Coupling(torch.from_numpy(mask), move, **conditioner))
            if i + 1 == c.layers or (c.actnorm and i % 2):
                layers.append(ActNorm(x.size))
        return layers
