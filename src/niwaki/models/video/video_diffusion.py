"""Denoising diffusion of clips (Ho et al., "Video diffusion models", NeurIPS 2022), free or after a past."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, ConditionSpec, Context, DataSpec, Port, Program, ValueSpec
from niwaki.models.diffusion.ddpm import Ddpm, DdpmConfig
from niwaki.models.registry import register
from niwaki.models.video.space_time_unet import SpaceTimeUNet

__all__ = ["PAST", "VideoDiffusion", "VideoDiffusionConfig"]

PAST = "past"
"""The column of the frames before the sample."""


class VideoDiffusionConfig(DdpmConfig):
    """
    temporal: layers over time, of those: `convolution` over three frames in every stage (Singer et al. 2023),
              `attention` over all frames after every attention over space (Ho et al. 2022)
    patch:    edge in pixels of what the network treats as one place; 2 takes about a quarter of the time
    other settings: as in `DdpmConfig`; `attention` (over space) in heights of feature maps, which are those
              of patches
    """

    temporal: tuple[Literal["attention", "convolution"], ...] = Field(
        ("convolution", "attention"), min_length=1
    )
    patch: int = Field(1, ge=1)


@register("video-diffusion")
class VideoDiffusion(Ddpm):
    """A denoiser over space and time. Where the data have a column `past`, it makes what follows (by the
    programs `sample` and `continue`): the known frames stand beside the noisy ones in the network.

    config: VideoDiffusionConfig
    spec:   clips `(T, C, H, W)` in −1 … 1; height and width are multiples of patch · 2^(number of widths − 1)
    """

    Config = VideoDiffusionConfig
    example_spec: ClassVar[DataSpec] = DataSpec.of("video", (8, 1, 16, 16), classes=10)
    config: VideoDiffusionConfig

    def __init__(self, config: VideoDiffusionConfig, spec: DataSpec) -> None:
        self.past = spec[PAST].shape[0] if PAST in spec and config.conditioning.wants(PAST) else 0
        super().__init__(config, spec)
        if self.past:
            self.conditions = {**self.conditions, PAST: ConditionSpec(spec[PAST])}

    def frame_shape(self, spec: DataSpec) -> tuple[int, int, int]:
        if spec.axes != "TCHW" or spec.is_tokens:
            raise CallError(
                f"'{self.name}' makes clips (T, C, H, W); this data set holds {spec.modality} of shape "
                f"{spec.shape}"
            )
        if self.past:
            _check_past(spec[PAST], spec.x)
        _, channels, height, width = spec.shape
        patch, c = self.config.patch, self.config
        if "convolution" not in c.temporal and not any(
            height // patch // 2**i in c.attention for i in range(len(c.widths))
        ):
            raise CallError(
                "nothing connects the frames: add 'convolution' to model.temporal, or to model.attention a "
                "height that feature maps have"
            )
        if height % patch or width % patch:
            raise CallError(f"'patch' {patch} does not divide frames of {height}×{width} pixels")
        return channels, height // patch, width // patch

    def network(self, channels: int, height: int) -> nn.Module:
        return SpaceTimeUNet(
            channels,
            frames=self.spec.shape[0],
            past=self.past,
            temporal=self.config.temporal,
            patch=self.config.patch,
            **self.network_settings(height),
        )

    def asked(self, batch: Batch, ctx: Context) -> list[Tensor]:
        return [*super().asked(batch, ctx), *([batch[PAST]] if self.past else [])]

    def condition_ports(self) -> list[Port]:
        past = [Port(PAST, (1, *self.spec[PAST].shape))] if self.past else []
        return [*super().condition_ports(), *past]

    def programs(self) -> dict[str, Program]:
        """`sample` and `inpaint`, as of images: a mask over the first frames continues a clip without any
        training for it. After a past `continue` is `sample`."""
        found = super().programs()
        return {**found, "continue": found["sample"]} if self.past else found


def _check_past(past: ValueSpec, x: ValueSpec) -> None:
    """Raises CallError where the past is not made of frames like those of the sample."""
    alike = past.axes == x.axes and past.shape[1:] == x.shape[1:]
    if not alike or (past.low, past.high) != (x.low, x.high):
        raise CallError(
            f"the column '{PAST}' holds {past.modality} of shape {past.shape}, and must be frames like those "
            f"of the clips {x.shape}; leave it out with model.conditioning.columns"
        )
