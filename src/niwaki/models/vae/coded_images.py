"""Images as a grid of codes: the encoder halves them until the grid is small, the decoder doubles it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from pydantic import Field
from torch import nn

from niwaki.core.contract import Batch, Context, DataSpec
from niwaki.models.vae.coded_samples import CodedSamples, CodedSamplesConfig
from niwaki.nn.layers.blocks import conv_down, conv_norm, conv_up, pyramid
from niwaki.nn.layers.images import Squash, image_shape, to_signed

__all__ = ["CodedImages", "CodedImagesConfig"]

_FAINT = 0.1  # of the last layer's fresh weights
_BOUND = 0.9  # of the mean that the decoder begins with, in −1 … 1


class CodedImagesConfig(CodedSamplesConfig):
    """
    width: channels at full size; doubled at every halving
    grid:  images are halved until a side would fall below it; each place of the grid has a vector
    mean_start: whether the decoder begins with the mean of the data, and layers as He et al. 2015 have them:
           for images that are mostly ground
    """

    width: int = Field(32, ge=1)
    grid: int = Field(4, ge=1)
    mean_start: bool = Field(False, exclude_if=lambda value: not value)


class CodedImages(CodedSamples):
    """The networks of those that code images.

    config: CodedImagesConfig
    spec:   images `(C, H, W)` of at least 4×4
    """

    config: CodedImagesConfig

    def __init__(self, config: CodedImagesConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        for layer in (*self.encoder.modules(), *self.decoder.modules()) if config.mean_start else ():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """The decoder begins with the mean of the first batches. Where most of an image is dark ground, steps
        that all say "darker" would end where the bound of the output has no slope, and stay there."""
        if ctx.stage == "codes" and self.config.mean_start and not ctx.is_begun(self.decoder):
            x = torch.cat([self.whole(batches(k)) for k in range(self.config.batches)])
            mean = x.movedim(-3, 0).flatten(1).mean(1)
            last = self.decoder[-2]
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            last.weight.mul_(_FAINT)
            last.bias.copy_(torch.atanh(to_signed(mean, self.spec).clamp(-_BOUND, _BOUND)))
        super().begin_stage(ctx, batches)

    def frame_shape(self, spec: DataSpec) -> tuple[int, int, int]:
        """(C, H, W) of what is encoded. Raises CallError for data that this model is not for."""
        return image_shape(spec, self.name)

    def make_encoder(self) -> tuple[nn.Sequential, tuple[int, ...]]:
        channels, height, width = self.frame_shape(self.spec)
        sizes = pyramid(height, width, self.config.grid)
        w = self._widths(len(sizes))
        down: list[nn.Module] = conv_norm(channels, w[0], norm="none")
        for a, b in pairwise(w):
            down += conv_down(a, b, nn.ReLU)
        down += conv_norm(w[-1], w[-1], norm="none")
        return nn.Sequential(*down, nn.Conv2d(w[-1], self.config.dim, 1)), sizes[0]

    def make_decoder(self) -> nn.Sequential:
        channels, height, width = self.frame_shape(self.spec)
        w = self._widths(len(pyramid(height, width, self.config.grid)))
        up: list[nn.Module] = conv_norm(self.config.dim, w[-1], norm="none")
        for b, a in pairwise(w[::-1]):
            up += conv_up(b, a, norm="none")
        up += conv_norm(w[0], w[0], norm="none")
        last = nn.Conv2d(w[0], channels, 3, padding=1)
        return nn.Sequential(*up, last, Squash(self.spec.low, self.spec.high))

    def _widths(self, sizes: int) -> list[int]:
        """Channels of each size, by halvings."""
        return [self.config.width * 2**i for i in range(sizes)]
