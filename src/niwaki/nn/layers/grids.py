"""Samples of any rank as what convolutions read: channels first, then the grid of places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from niwaki.core.contract import CallError, DataSpec

__all__ = ["AVERAGE", "CONVOLUTION", "ChannelsFirst", "Embedded", "Grid", "grid_of"]

CONVOLUTION: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
"""By the rank of the grid."""
AVERAGE: dict[int, Any] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class Embedded(nn.Module):
    """Tokens `(n, *grid)` as vectors `(n, width, *grid)`: names have no order, so each has a vector."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x.long()).movedim(-1, 1)


class ChannelsFirst(nn.Module):
    """Clips `(n, T, C, H, W)` as `(n, C, T, H, W)`; a grid without channels gets one.

    at: the axis of the channels in a sample; None where it has none
    """

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.at = at

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1) if self.at is None else x.movedim(self.at + 1, 1)

    def back(self, x: Tensor) -> Tensor:
        """The inverse."""
        return x.squeeze(1) if self.at is None else x.movedim(1, self.at + 1)


@dataclass(frozen=True)
class Grid:
    """How samples lie.

    sides:    of the grid of places: () of vectors, (T,) of series, (H, W) of images, (T, H, W) of clips
    channels: at each place; 0 of tokens
    at:       the axis of the channels in a sample; None where it has none
    tokens:   how many there are; 0 of amounts
    """

    sides: tuple[int, ...]
    channels: int
    at: int | None
    tokens: int = 0

    def front(self, width: int) -> tuple[list[nn.Module], int]:
        """Layers that make `(n, channels, *sides)` of samples, and how many channels that are.

        width: length of a token's vector
        """
        if self.tokens:
            return [Embedded(self.tokens, width)], width
        return [] if self.at == 0 else [ChannelsFirst(self.at)], self.channels


def grid_of(spec: DataSpec, who: str = "this network") -> Grid:
    """Raises CallError for samples of more than three dimensions beside their channels.

    who: looks at them, in the message
    """
    at = None if spec.is_tokens else spec.x.axis("C")
    sides = tuple(side for i, side in enumerate(spec.shape) if i != at)
    if len(sides) > max(CONVOLUTION):
        raise CallError(
            f"{who} is for samples of up to three dimensions beside their channels, not for {spec.modality} "
            f"of shape {spec.shape}"
        )
    if spec.is_tokens:
        return Grid(sides, 0, None, spec.levels)
    return Grid(sides, 1 if at is None else spec.shape[at], at)
