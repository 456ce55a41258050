"""Denoising diffusion (Ho, Jain & Abbeel 2020) with a cosine schedule, v-prediction and guidance."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import (
    Batch,
    CallError,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Port,
)
from niwaki.models.diffusion.process import TARGETS, drop_labels, levels, noised
from niwaki.models.diffusion.unet import UNet
from niwaki.models.registry import ModelConfig, register
from niwaki.nn.layers.images import class_condition, image_shape, labels_of
from niwaki_runtime.samplers import Diffusion

__all__ = ["Ddpm", "DdpmConfig"]


class DdpmConfig(ModelConfig):
    """
    widths:      channels at each size, finest first; as many sizes as there are widths
    blocks:      residual blocks at each size
    attention:   sizes (height of the feature map, in pixels) that get self-attention
    heads:       attention heads
    groups:      of every GroupNorm; widths are multiples of it, and stay so when pruned
    dropout:     inside residual blocks
    prediction:  `v` or `epsilon`
    schedule:    `cosine` or `linear`
    train_steps: timesteps of the forward process
    label_drop:  share of labels dropped in training, one coin per sample; above 0 the model can be guided
    conditional: use the labels; None is wherever there are any
    solver, steps, guidance, spacing: how it samples unless told otherwise
    """

    widths: tuple[int, ...] = Field((64, 128), min_length=1)
    blocks: int = Field(2, ge=1)
    attention: tuple[int, ...] = (4, 8)
    heads: int = Field(4, ge=1)
    groups: int = Field(8, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    prediction: Literal["v", "epsilon"] = "v"
    schedule: Literal["cosine", "linear"] = "cosine"
    train_steps: int = Field(1000, ge=2)
    label_drop: float = Field(0.1, ge=0, lt=1)
    conditional: bool | None = None
    solver: Literal["ddpm", "ddim", "dpmpp_2m", "consistency"] = "ddim"
    steps: int = Field(30, ge=1)
    guidance: float = 1.0
    spacing: Literal["trailing", "linspace", "leading"] = "trailing"


@register("ddpm")
class Ddpm(GenerativeModel):
    """A network that takes noise away, called some tens of times per sample.

    config: DdpmConfig
    spec:   images `(C, H, W)` in −1 … 1; height and width are multiples of 2^(number of widths − 1)
    """

    Config = DdpmConfig
    config: DdpmConfig
    alphas: Tensor
    sigmas: Tensor

    def __init__(self, config: DdpmConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        channels, height, width = image_shape(spec, self.name)
        if (spec.low, spec.high) != (-1.0, 1.0):
            raise CallError(f"'{self.name}' needs values in −1 … 1, not {spec.low} … {spec.high}")
        halvings = len(config.widths) - 1
        if height % 2**halvings or width % 2**halvings:
            raise CallError(
                f"{height}×{width} pixels cannot be halved {halvings} times; shorten 'model.widths'"
            )
        self.classes = 0 if config.conditional is False else spec.classes
        self.guided = bool(self.classes and config.label_drop)
        if config.guidance != 1.0 and not self.guided:
            raise CallError("guidance needs labels and model.label_drop above 0")
        null = self.classes if self.guided else None
        self.conditions = class_condition(spec, null) if self.classes else {}
        self.denoiser = UNet(
            channels,
            widths=config.widths,
            blocks=config.blocks,
            attention=[height // 2**i in config.attention for i in range(len(config.widths))],
            heads=config.heads,
            classes=self.classes,
            null=self.guided,
            groups=config.groups,
            dropout=config.dropout,
        )
        alphas, sigmas = levels(config.schedule, config.train_steps)
        self.register_buffer("alphas", alphas, persistent=False)
        self.register_buffer("sigmas", sigmas, persistent=False)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("denoiser", ("denoiser",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """E ‖target − prediction‖² over uniform timesteps (Ho, Jain & Abbeel 2020, Equation 14)."""
        n, device = len(batch), batch.x.device
        t = torch.randint(0, self.config.train_steps, (n,), generator=ctx.rng, device=device)
        eps = torch.randn(batch.x.shape, generator=ctx.rng, device=device)
        a, s = self.alphas[t], self.sigmas[t]
        inputs = [noised(batch.x, eps, a, s), t.float()]
        y = labels_of(batch, self.classes, self.name)
        if y is not None:
            inputs.append(drop_labels(y, self.classes, self.config.label_drop, ctx.rng) if self.guided else y)
        target = TARGETS[self.config.prediction](batch.x, eps, a, s)
        return {"denoiser": (self.denoiser(*inputs).float() - target).square().mean()}

    def graphs(self) -> dict[str, Graph]:
        inputs = [Port("x", (1, *self.spec.shape)), Port("t", (1,))]
        if self.classes:
            inputs.append(Port("class", (1,), "int64", high=self.classes + int(self.guided)))
        return {"denoiser": Graph("denoiser", self.denoiser, tuple(inputs))}

    def sampler(self) -> Diffusion:
        c = self.config
        return Diffusion(
            shape=self.spec.shape,
            solver=c.solver,
            steps=c.steps,
            train_steps=c.train_steps,
            schedule=c.schedule,
            prediction=c.prediction,
            spacing=c.spacing,
            conditions=tuple(self.conditions),
            null={"class": self.classes} if self.guided else {},
            guidance=c.guidance,
        )
