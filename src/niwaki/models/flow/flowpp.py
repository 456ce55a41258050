"""Flow++ (Ho et al. 2019): mixture-of-logistics couplings, attention, variational dequantization."""

from __future__ import annotations

import math
from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    ConditionSpec,
    DataSpec,
    Graph,
    Phase,
    Port,
    Program,
    Real,
    ValueSpec,
    View,
)
from niwaki.models.flow.dequantizer import Dequantizer
from niwaki.models.flow.flow_model import FlowConfig, FlowModel
from niwaki.models.flow.glow import multi_scale
from niwaki.models.flow.image_layers import ConvCoupling
from niwaki.models.flow.mixture import MixtureLogistics
from niwaki.models.flow.networks import AttentiveNetwork
from niwaki.models.registry import register
from niwaki.nn.layers.images import image_shape
from niwaki_runtime.samplers import OneShot

__all__ = ["FlowPP", "FlowPPConfig"]


class FlowPPConfig(FlowConfig):
    """
    levels:      scales; at each the image is halved, and half of what comes out is split off
    layers:      of each level: normalization, mixing of channels, coupling
    width:       channels of the networks in couplings
    blocks:      of each network: a gated convolution and self-attention
    heads:       of each attention
    dropout:     share of hidden channels that is left out in training
    components:  of the mixtures of logistics
    dequantizer: couplings of the flow that makes the noise of levels; 0 leaves it uniform
    """

    levels: int = Field(1, ge=1)
    layers: int = Field(6, ge=1)
    width: int = Field(64, ge=1)
    blocks: int = Field(1, ge=1)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    components: int = Field(4, ge=1)
    dequantizer: int = Field(2, ge=0)


@register("flowpp")
class FlowPP(FlowModel):
    """A multi-scale flow on images. Of stored levels `log_prob` is a lower bound of log P(x), at one draw of
    the noise; the density of values, which `encode` and `decode` invert, is exact.

    config: FlowPPConfig
    spec:   images `(C, H, W)`, both sides divisible by 2 for every level
    """

    Config = FlowPPConfig
    config: FlowPPConfig

    def __init__(self, config: FlowPPConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        c, shape = config, image_shape(spec, self.name)
        self.dequantizer = (
            Dequantizer(shape, layers=c.dequantizer, width=c.width, blocks=c.blocks, heads=c.heads)
            if self.step and c.dequantizer
            else None
        )

    def layers(self) -> list[nn.Module]:
        c = self.config
        return multi_scale(image_shape(self.spec, self.name), c.levels, c.layers, self._coupling)

    def _coupling(self, shape: tuple[int, int, int]) -> ConvCoupling:
        c = self.config
        network = partial(
            AttentiveNetwork,
            width=c.width,
            blocks=c.blocks,
            heads=c.heads,
            classes=self.classes,
            dropout=c.dropout,
        )
        return ConvCoupling(shape, MixtureLogistics(c.components), network)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("nll", ("flow",) if self.dequantizer is None else ("flow", "dequantizer")),)

    def filled(self, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.dequantizer is None:
            return super().filled(x, rng)
        eps = torch.randn((x.shape[0], self.spec.size), generator=rng, device=x.device, dtype=x.dtype)
        u, log_q = self.dequantizer(x, eps)
        return x + self.step * (u - 0.5), log_q

    def bound(self, eps: Tensor, x: Tensor) -> Tensor:
        """A lower bound of log P(x) of stored levels in nats `(n,)`, at the noise that ε `(n, size)` makes:
        it is a bound in its mean over ε (Ho et al. 2019, Equation 12)."""
        assert self.dequantizer is not None
        u, log_q = self.dequantizer(x, eps)
        density = self.log_prob(x + self.step * (u - 0.5))
        return density - log_q + self.spec.size * math.log(self.step)

    def graphs(self) -> dict[str, Graph]:
        found = super().graphs()
        if self.dequantizer is None:
            return found
        ports = Port("eps", (1, self.spec.size)), Port("x", (1, *self.spec.shape))
        density = Graph("likelihood", View(self, "bound"), ports, ("log_probability",))
        return {**found, "density": density}

    def programs(self) -> dict[str, Program]:
        found = super().programs()
        if self.dequantizer is None:
            return found
        nats = ValueSpec("vector", (), "", Real(-math.inf, math.inf), names=("log_probability",))
        drawn = OneShot((self.spec.size,), "density", ("x",))
        return {**found, "log_prob": Program(drawn, {"x": ConditionSpec(self.spec.x)}, nats)}
