"""Clips as codes of their frames, and a transformer that writes them, free or after a past (Yan, Zhang,
Abbeel & Srinivas 2021, "VideoGPT")."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    DataSpec,
    Graph,
    Port,
    Program,
    Tokens,
    ValueSpec,
    View,
)
from niwaki.models.registry import register, register_preset
from niwaki.models.vae.code_prior import CodePrior
from niwaki.models.vae.codebooks import Kind
from niwaki.models.vae.masked_prior import MaskedPrior
from niwaki.models.vae.vqvae import VqVae, VqVaeConfig
from niwaki.models.video.clip_prior import ClipPrior
from niwaki.models.video.past import PAST, frame_shape, past_frames
from niwaki_runtime.samplers import Cascade, OneShot
from niwaki_runtime.samplers.prompts import ABSENT

__all__ = ["VideoGpt", "VideoGptConfig"]


class VideoGptConfig(VqVaeConfig):
    """
    codebook:     as in `VqVaeConfig`; of running means unless said otherwise
    mean_start:   as in `VqVaeConfig`; true, for clips are mostly ground
    other settings: as in `VqVaeConfig`, of frames; `prior_steps` are those of a whole clip
    """

    codebook: Kind = "averaged"
    codes: int = Field(128, ge=2)
    mean_start: bool = Field(True, exclude_if=lambda value: value)


register_preset(
    "magvit",
    "video-gpt",
    "MAGVIT (Yu et al. 2023): the codes of a clip, several in each of twelve steps",
    prior="masked",
    prior_steps=12,
)


@register("video-gpt")
class VideoGpt(VqVae):
    """Every frame is said by codes of one codebook, as an image is; the prior writes those of all frames, in
    their order. Where the data have a column `past`, it is written, too: `sample` makes a past and drops it,
    `continue` begins with the codes of a given one.

    config: VideoGptConfig
    spec:   clips `(T, C, H, W)` of at least 4×4 pixels
    """

    Config = VideoGptConfig
    example_spec: ClassVar[DataSpec] = DataSpec.of("video", (8, 1, 16, 16), classes=10)
    config: VideoGptConfig

    def __init__(self, config: VideoGptConfig, spec: DataSpec) -> None:
        self.past = past_frames(spec, config.conditioning)
        super().__init__(config, spec)

    def frame_shape(self, spec: DataSpec) -> tuple[int, int, int]:
        channels, height, width = frame_shape(spec, self.past, self.name)
        if min(height, width) < 4:
            raise CallError(f"'{self.name}' needs frames of at least 4×4 pixels, not {height}×{width}")
        return channels, height, width

    @property
    def each(self) -> int:
        """Codes of a frame."""
        return super().length

    @property
    def frames(self) -> int:
        """Of the sample and of its past."""
        return self.past + self.spec.shape[0]

    @property
    def length(self) -> int:
        """Codes of a clip: those of the first frame, of the second …"""
        return self.frames * self.each

    def make_prior(self) -> CodePrior | MaskedPrior:
        c, sizes = self.config, self.prior_settings()
        if c.prior == "causal":
            return ClipPrior(c.codes, self.frames, self.each, self.numbers, **sizes)
        rows = self.frames * self.grid[0]
        grid = (rows, self.length // rows)
        return MaskedPrior(c.codes, grid, self.numbers, steps=c.prior_steps, **sizes)

    def whole(self, batch: Batch) -> Tensor:
        return torch.cat((batch[PAST], batch.x), 1) if self.past else batch.x

    def features(self, x: Tensor) -> Tensor:
        """x `(n, F, C, H, W)` → what codes are searched for `(n, F, h, w, dim)`."""
        return super().features(x.flatten(0, 1)).unflatten(0, (-1, x.shape[1]))

    def _draw(self, e: Tensor) -> Tensor:
        """Vectors `(n, F, h, w, dim)` → frames `(n, F, C, H, W)`."""
        return super()._draw(e.flatten(0, 1)).unflatten(0, (-1, e.shape[1]))

    def decode(self, codes: Tensor, books: int | None = None) -> Tensor:
        """Codes `(n, length)` → the frames of the sample `(n, T, C, H, W)`, without its past."""
        c, later = self.config, codes[:, self.past * self.each :]
        if c.books > 1:
            later = later.reshape(later.shape[0], -1, c.books)[..., :books]
        e = self.codebook.look_up(later).reshape(-1, self.spec.shape[0], *self.grid, c.dim)
        return self._draw(e)

    def prompt(self, past: Tensor) -> Tensor:
        """A past `(n, P, C, H, W)` → its codes, and after them −1 where others are made `(n, length)`."""
        return F.pad(self.encode(past), (0, self.length - self.past * self.each), value=ABSENT)

    def graphs(self) -> dict[str, Graph]:
        found = super().graphs()
        if self.past:
            past = Port(PAST, (1, *self.spec[PAST].shape))
            found["reader"] = Graph("encoder", View(self, "prompt"), (past,), ("prompt",))
        return found

    def programs(self) -> dict[str, Program]:
        """`encode` says the codes of a sample. Without a past there are also `decode` and `codec`; after one,
        `continue`."""
        found = super().programs()
        if not self.past:
            return found
        read, draw = OneShot(None, "reader", (PAST,)), OneShot(None, "decoder", ("codes",))
        writing = replace(self.prior.writing(self.asking()), prompt="prompt")
        after = Cascade((read, writing, draw), ("prompt", "codes")).override(**self.config.sampling)
        codes = ValueSpec("vector", (self.length - self.past * self.each,), "T", Tokens(self.config.codes))
        return {
            "sample": found["sample"],
            "continue": Program(
                after, {PAST: ConditionSpec(self.spec[PAST]), **self.conditions}, self.spec.x
            ),
            "encode": replace(found["encode"], output=codes),
        }
