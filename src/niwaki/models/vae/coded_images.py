"""Images as a grid of codes: the encoder halves them until the grid is small, the decoder doubles it."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field
from torch import nn

from niwaki.core.contract import DataSpec
from niwaki.models.vae.coded_samples import CodedSamples, CodedSamplesConfig
from niwaki.nn.layers.blocks import conv_down, conv_norm, conv_up, pyramid
from niwaki.nn.layers.images import Squash, image_shape

__all__ = ["CodedImages", "CodedImagesConfig"]


class CodedImagesConfig(CodedSamplesConfig):
    """
    width: channels at full size; doubled at every halving
    grid:  images are halved until a side would fall below it; each place of the grid has a vector
    """

    width: int = Field(32, ge=1)
    grid: int = Field(4, ge=1)


class CodedImages(CodedSamples):
    """The networks of those that code images.

    config: CodedImagesConfig
    spec:   images `(C, H, W)` of at least 4×4
    """

    config: CodedImagesConfig

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
