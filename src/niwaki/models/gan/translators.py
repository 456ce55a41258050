"""Networks that make an image of an image, and critics that look at patches."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from niwaki.core.contract import CallError
from niwaki.nn.layers.blocks import conv_down, conv_norm, conv_up, near_zero_init
from niwaki.nn.layers.images import Squash

__all__ = ["PatchCritic", "Translator"]

_GAIN = 2.0  # tanh(2) = 0.96: the ends of the range are nearly kept, and gradients pass at both of them


class _Residual(nn.Module):
    """x + conv(relu(conv(x))): close to the identity at the start."""

    residual_ends: ClassVar[tuple[str, ...]] = ("body",)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            near_zero_init(nn.Conv2d(channels, channels, 3, padding=1), gain=0.1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Translator(nn.Module):
    """Images `(n, C, H, W)` in [low, high] → tanh(2 x + f(x)) in [low, high], f small at the start.

    Encoder, residual blocks at half size and decoder are those of Johnson et al. 2016, as in CycleGAN
    (Section 7.2), with one halving; no normalization, which on a few pixels of ink would follow their amount.
    The way round all of it carries the image itself, so that f says only what has to change.
    """

    def __init__(
        self, shape: tuple[int, int, int], *, width: int, blocks: int, low: float, high: float
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        if height % 2 or columns % 2:
            raise CallError(
                f"images that are translated must have even height and width, not {height}×{columns}"
            )
        self.middle, self.scale = (high + low) / 2.0, (high - low) / 2.0
        self.body = nn.Sequential(
            *conv_norm(channels, width, norm="none"),
            *conv_down(width, 2 * width, nn.ReLU),
            *(_Residual(2 * width) for _ in range(blocks)),
            *conv_up(2 * width, width, norm="none"),
            near_zero_init(nn.Conv2d(width, channels, 3, padding=1), gain=0.1),
        )
        self.squash = Squash(low, high)

    def forward(self, x: Tensor) -> Tensor:
        signed = x if (self.middle, self.scale) == (0.0, 1.0) else (x - self.middle) / self.scale
        return self.squash(_GAIN * signed + self.body(signed))


class PatchCritic(nn.Module):
    """Images `(n, C, H, W)` → one value for each of (H/4)·(W/4) overlapping patches of 26×26 pixels
    (PatchGAN, Isola et al. 2017). No class is looked at."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        activation = partial(nn.LeakyReLU, 0.2)
        self.body = nn.Sequential(
            *conv_down(channels, width, activation),
            *conv_down(width, 2 * width, activation),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            activation(),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.body(x)
