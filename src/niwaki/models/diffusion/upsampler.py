"""The second half of a cascade: a denoiser that is given a small picture, with noise, beside the noisy large
one (Saharia et al. 2021, "SR3"; Ho et al. 2022, "Cascaded diffusion models")."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import Batch, CallError, Context, DataSpec, Graph, Port
from niwaki.models.diffusion.config import DenoiserConfig, unless
from niwaki.models.diffusion.ddpm import Ddpm, DdpmConfig
from niwaki.models.diffusion.networks import Task
from niwaki.nn.diffusion import columns
from niwaki.nn.layers.embedding import Sinusoidal
from niwaki_runtime.samplers import NoiseConditioned

__all__ = ["LEVEL", "LOW", "Upsampler", "UpsamplerConfig"]

LOW, LEVEL = "low", "level"
"""By these names the denoiser is given small pictures and the level of their noise."""
_TOLD = 16  # values that a level becomes
_STEPS = 1000.0  # of a level from 0 to 1, as an embedding of times sees it
_USUAL = 0.1  # level of sampling, where training knows it


class UpsamplerConfig(DdpmConfig):
    """
    factor:       how often a side of the small picture goes into that of the samples
    augmentation: the highest level s of the noise √(1 − s²) y + s ε that small pictures y get in training,
                  where each has a level of its own, drawn evenly from 0 on; sampling has 0.1, or what
                  `sampling: {augmentation: …}` says
    """

    factor: int = Field(2, ge=2)
    augmentation: float = Field(0.5, ge=0, le=1)
    self_conditioning: bool = unless(False)
    likelihood: bool = unless(False)
    weak: None = unless(None)  # type: ignore[assignment]
    repa: None = unless(None)  # type: ignore[assignment]

    @model_validator(mode="after")
    def _given_a_picture(self) -> Self:
        for name in ("self_conditioning", "likelihood"):
            if getattr(self, name):
                raise ValueError(f"'{name}' is not for a network that is given a small picture; leave it out")
        return self


class Enlarging(nn.Module):
    """x_t, t, conditions, levels `(n,)`, small pictures `(n, C, h, w)` → what the network says of x_t, the
    small picture, each pixel repeated, and what it is told of the level."""

    def __init__(self, network: nn.Module, factor: int) -> None:
        super().__init__()
        self.network, self.factor = network, factor
        self.told = Sinusoidal(_TOLD)

    def forward(self, x: Tensor, t: Tensor, *given: Tensor) -> Any:
        *conditions, level, low = given
        large = F.interpolate(low, scale_factor=float(self.factor), mode="nearest")
        return self.network(x, t, *conditions, self.told(level * _STEPS), large)


class Upsampler(Ddpm):
    """A denoiser of large pictures, asked by what the data have and by a small picture.

    config: UpsamplerConfig
    spec:   as of `Ddpm`; `factor` divides height and width
    """

    name = "upsampler"
    Config = UpsamplerConfig
    config: UpsamplerConfig

    def frame_shape(self, spec: DataSpec) -> tuple[int, int, int]:
        channels, height, width = super().frame_shape(spec)
        if height % self.config.factor or width % self.config.factor:
            raise CallError(
                f"'factor' {self.config.factor} does not divide pictures of {height}×{width} pixels"
            )
        return channels, height, width

    @property
    def small(self) -> tuple[int, int, int]:
        """(C, h, w) of the small pictures."""
        channels, height, width = self.spec.shape
        return channels, height // self.config.factor, width // self.config.factor

    def task(self, channels: int, height: int, width: int) -> Task:
        """The enlarged picture stands where an estimate of x₀ does, which it is; the level is a vector."""
        told = super().task(channels, height, width)
        return replace(told, encoded=(*told.encoded, (_TOLD,)), estimate=True)

    def network(self, task: Task, config: DenoiserConfig) -> nn.Module:
        return Enlarging(super().network(task, config), self.config.factor)

    def shrunk(self, x: Tensor) -> Tensor:
        """Means of blocks of samples `(n, C, H, W)`: `(n, C, h, w)`."""
        return F.avg_pool2d(x, self.config.factor)

    def asked(self, batch: Batch, ctx: Context) -> list[Tensor]:
        given, low = super().asked(batch, ctx), self.shrunk(batch.x)
        level = self.config.augmentation * torch.rand(len(low), generator=ctx.rng, device=low.device)
        eps = torch.randn(low.shape, generator=ctx.rng, device=low.device)
        s = columns(level, low)
        return [*given, level, (1.0 - s.square()).sqrt() * low + s * eps]

    def graphs(self) -> dict[str, Graph]:
        inputs = (
            Port("x", (1, *self.spec.shape)),
            Port("t", (1,)),
            *self.condition_ports(),
            Port(LEVEL, (1,)),
            Port(LOW, (1, *self.small)),
        )
        return {**self.word_graphs(), "denoiser": self.denoiser_graph(self.denoiser, inputs)}

    def enlarging(self) -> NoiseConditioned:
        """The sampler around the denoiser, which is given small pictures as the condition `low`."""
        plain = self.sampler()
        plain = replace(plain, conditions=(*plain.conditions, LEVEL, LOW))
        usual = min(_USUAL, self.config.augmentation)
        return NoiseConditioned(
            plain, LOW, LOW, LEVEL, self.small, augmentation=usual, factor=self.config.factor
        )
