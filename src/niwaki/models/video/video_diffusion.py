"""Denoising diffusion of clips (Ho et al., "Video diffusion models", NeurIPS 2022), free or after a past."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    Graph,
    Port,
    Program,
    View,
)
from niwaki.models.diffusion.config import DenoiserConfig, unless
from niwaki.models.diffusion.ddpm import Ddpm, DdpmConfig
from niwaki.models.diffusion.networks import Task
from niwaki.models.diffusion.unet import unet_settings
from niwaki.models.registry import register
from niwaki.models.video.past import PAST, frame_shape, past_frames
from niwaki.models.video.space_time_unet import SpaceTimeUNet
from niwaki.nn.diffusion import columns

__all__ = ["VideoDiffusion", "VideoDiffusionConfig"]


class VideoDiffusionConfig(DdpmConfig):
    """
    temporal: layers over time, of those: `convolution` over three frames in every stage (Singer et al. 2023),
              and after every attention over space `attention` over the frames of each pixel (Ho et al. 2022)
              or `joint` attention over all pixels of all frames (Bertasius et al. 2021)
    without_past: share of samples that are trained without their past, one coin per sample (Voleti et al.
              2022, "MCVD"); above 0, `sample` needs none
    other settings: as in `DdpmConfig`; `attention` is over space
    """

    temporal: tuple[Literal["attention", "convolution", "joint"], ...] = Field(
        ("convolution", "attention"), min_length=1
    )
    without_past: float = Field(0.0, ge=0, lt=1, exclude_if=lambda value: not value)
    repa: None = unless(None)  # type: ignore[assignment]
    network: dict[Literal["name"], Literal["unet"]] = unless({"name": "unet"})  # type: ignore[assignment]


@register("video-diffusion")
class VideoDiffusion(Ddpm):
    """A denoiser over space and time. Where the data have a column `past`, it makes what follows by the
    program `continue`: the known frames stand beside the noisy ones in the network.

    config: VideoDiffusionConfig
    spec:   clips `(T, C, H, W)` in −1 … 1; height and width are multiples of patch · 2^(number of widths − 1)
    """

    Config = VideoDiffusionConfig
    takes_texts = False
    example_spec: ClassVar[DataSpec] = DataSpec.of("video", (8, 1, 16, 16), classes=10)
    config: VideoDiffusionConfig

    def __init__(self, config: VideoDiffusionConfig, spec: DataSpec) -> None:
        self.past = past_frames(spec, config.conditioning)
        self.free = bool(self.past and config.without_past)  # whether it makes clips without a past, too
        if self.free and config.weak is not None:
            raise CallError("'weak' is for one way to be asked; leave it out, or 'model.without_past'")
        super().__init__(config, spec)
        if self.past and not self.free:
            self.conditions = {**self.conditions, PAST: ConditionSpec(spec[PAST])}

    def frame_shape(self, spec: DataSpec) -> tuple[int, int, int]:
        channels, height, width = frame_shape(spec, self.past, self.name)
        c = self.config
        if "convolution" not in c.temporal and not any(
            height // c.patch // 2**i in c.attention for i in range(len(c.widths))
        ):
            raise CallError(
                "nothing connects the frames: add 'convolution' to model.temporal, or to model.attention a "
                "height that feature maps have"
            )
        return channels, height, width

    def network(self, task: Task, config: DenoiserConfig) -> nn.Module:
        return SpaceTimeUNet(
            task.channels,
            frames=self.spec.shape[0],
            past=self.past,
            temporal=self.config.temporal,
            **unet_settings(config, task),
        )

    def asked(self, batch: Batch, ctx: Context) -> list[Tensor]:
        found = super().asked(batch, ctx)
        if not self.past:
            return found
        past = batch[PAST]
        if self.free:
            coin = torch.rand(len(batch), generator=ctx.rng, device=past.device) < self.config.without_past
            past = torch.where(columns(coin, past), self._no_past(past), past)
        return [*found, past]

    def _no_past(self, x: Tensor) -> Tensor:
        """What stands for the past of clips `x` `(n, …)` that have none: 0 everywhere, which is neither dark
        nor light."""
        return x.new_zeros((x.shape[0], *self.spec[PAST].shape))

    def without_past(self, x: Tensor, t: Tensor, *conditions: Tensor) -> Any:
        """The denoiser of clips that have no past."""
        last = len(conditions) - int(self.config.self_conditioning)  # an estimate of x₀ comes last
        return self.denoiser(x, t, *conditions[:last], self._no_past(x), *conditions[last:])

    def graphs(self) -> dict[str, Graph]:
        if not self.past:
            return super().graphs()
        alone = (Port("x", (1, *self.spec.shape)), Port("t", (1,)), *self.condition_ports())
        both = (*alone, Port(PAST, (1, *self.spec[PAST].shape)))
        after = self.denoiser_graph(self.denoiser, both)
        if not self.free:
            return self.with_derivative({"denoiser": after, **self.weak_graphs(both)})
        free = self.denoiser_graph(View(self, "without_past"), alone)
        return self.with_derivative({"denoiser": free, "predictor": after})

    def programs(self) -> dict[str, Program]:
        """`sample` and `inpaint`, as of images: a mask over the first frames continues a clip without any
        training for it. After a past `continue` is `sample`, unless that needs none."""
        found = super().programs()
        if self.past:
            asked = {**self.conditions, PAST: ConditionSpec(self.spec[PAST])}
            sampler = replace(
                self.sampler(), graph="predictor" if self.free else "denoiser", conditions=tuple(asked)
            )
            found["continue"] = Program(sampler, asked, self.spec.x)
        return found
