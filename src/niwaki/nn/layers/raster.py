"""Stacks of convolutions that see nothing after a place in raster order (left to right, top to bottom): over
whole images in training, and in sampling one row, then one pixel at a time, with what later ones need as
state.

A stack turns encoded levels `(n, E, H, W)` into a hidden value of each place `(n, width, H, W)`, which
depends on the rows above and on the places to the left alone. What `read_row` says of the row above is all
that the places of a row need to know of it, so that no place is computed twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.nn.layers.dropout import Dropout

__all__ = ["GatedStack", "MaskedStack", "RasterStack"]


class RasterStack(nn.Module, ABC):
    """Either way of seeing only what came before.

    reach: places to each side, and rows upwards, that one convolution sees
    width: channels of the hidden value
    """

    reach: int
    width: int

    @abstractmethod
    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """Whole images: encoded levels `(n, E, H, W)`, what all places are told `(n, T)`
        → `(n, width, H, W)`."""

    @abstractmethod
    def read_row(self, x: Tensor, told: Tensor | None, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The row above `(n, E, 1, W)` → what it says of the next row's places `(n, W, features)`, new
        state."""

    @abstractmethod
    def read_pixel(
        self, x: Tensor, above: Tensor, told: Tensor | None, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """The pixel to the left `(n, E, 1, 1)`, `read_row`'s of this place `(n, features)` → its hidden value
        `(n, width)`, new state."""

    @property
    @abstractmethod
    def features(self) -> int:
        """Values that `read_row` gives for one place."""

    @abstractmethod
    def row_state(self, columns: int) -> list[tuple[int, ...]]:
        """Shapes `(1, channels, rows, columns)` of what `read_row` carries along."""

    @abstractmethod
    def pixel_state(self) -> list[tuple[int, ...]]:
        """Shapes `(1, channels, 1, places)` of what `read_pixel` carries along."""


def _beside(x: Tensor, reach: int) -> Tensor:
    """Nothing stands beyond the left and the right border."""
    return F.pad(x, (reach, reach, 0, 0))


class _GatedBlock(nn.Module):
    """tanh(a) ⊙ σ(b) in two stacks: one sees the rows above, the other the row itself and the first
    (van den Oord et al. 2016b, "Conditional Image Generation with PixelCNN Decoders", Section 2).

    Unlike there, the first stack has a way past its network, too.

    last: nothing reads what the first stack would make of it
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("out", "vertical_out")

    def __init__(self, width: int, reach: int, told: int, dropout: float, *, last: bool) -> None:
        super().__init__()
        self.reach = reach
        self.vertical = nn.Conv2d(width, 2 * width, (reach + 1, 2 * reach + 1))
        self.horizontal = nn.Conv2d(width, 2 * width, (1, reach + 1))
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        self.vertical_out = None if last else nn.Conv2d(width, width, 1)
        self.told = nn.Linear(told, 2 * width, bias=False) if told else None
        self.drop = Dropout(dropout)

    def see_above(self, window: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """x and the rows above it, padded → the first stack's x, what the second is told of it."""
        v = self.vertical(window)
        if self.vertical_out is None:
            return x, self.link(v)
        a, b = v.chunk(2, 1)
        return x + self.vertical_out(self.drop(torch.tanh(a) * torch.sigmoid(b))), self.link(v)

    def see_left(self, window: Tensor, x: Tensor, above: Tensor, told: Tensor | None) -> Tensor:
        h = self.horizontal(window) + above
        if self.told is not None:
            h = h + self.told(told)[:, :, None, None]
        a, b = h.chunk(2, 1)
        return x + self.out(self.drop(torch.tanh(a) * torch.sigmoid(b)))


class GatedStack(RasterStack):
    """Two stacks of gated convolutions.

    inputs: channels of encoded levels; told: of what every place is told; layers: of either stack
    """

    def __init__(
        self, inputs: int, width: int, *, layers: int, reach: int, told: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.reach, self.width = reach, width
        self.enter_above, self.enter_left = nn.Conv2d(inputs, width, 1), nn.Conv2d(inputs, width, 1)
        self.blocks = nn.ModuleList(
            _GatedBlock(width, reach, told, dropout, last=i == layers - 1) for i in range(layers)
        )

    def _blocks(self) -> list[_GatedBlock]:
        return [block for block in self.blocks if isinstance(block, _GatedBlock)]

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        k = self.reach
        v = self.enter_above(F.pad(x, (0, 0, 1, 0))[:, :, :-1])  # the row above
        h = self.enter_left(F.pad(x, (1, 0))[..., :-1])  # the pixel to the left
        for block in self._blocks():
            v, above = block.see_above(F.pad(v, (k, k, k, 0)), v)
            h = block.see_left(F.pad(h, (k, 0)), h, above, told)
        return h

    @property
    def features(self) -> int:
        return sum(block.link.out_channels for block in self._blocks())

    def row_state(self, columns: int) -> list[tuple[int, ...]]:
        return [(1, block.vertical.in_channels, self.reach, columns) for block in self._blocks()]

    def pixel_state(self) -> list[tuple[int, ...]]:
        return [(1, block.horizontal.in_channels, 1, self.reach) for block in self._blocks()]

    def read_row(self, x: Tensor, told: Tensor | None, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        v = self.enter_above(x)
        said, news = [], []
        for block, rows in zip(self._blocks(), state, strict=True):
            window = torch.cat([rows, v], 2)
            news.append(window[:, :, 1:])
            v, above = block.see_above(_beside(window, self.reach), v)
            said.append(above)
        return (torch.cat(said, 1).squeeze(2).transpose(1, 2), *news)

    def read_pixel(
        self, x: Tensor, above: Tensor, told: Tensor | None, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        h = self.enter_left(x)
        news, at = [], 0
        for block, places in zip(self._blocks(), state, strict=True):
            window = torch.cat([places, h], 3)
            news.append(window[..., 1:])
            size = block.link.out_channels
            h = block.see_left(window, h, above[:, at : at + size, None, None], told)
            at += size
        return (h.flatten(1), *news)


class _MaskedConv(nn.Module):
    """A convolution that sees `reach` rows above and, of the row itself, the places up to this one: that of a
    masked square kernel (van den Oord et al. 2016a, "Pixel Recurrent Neural Networks"), in two parts."""

    def __init__(self, inputs: int, outputs: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.above = nn.Conv2d(inputs, outputs, (reach, 2 * reach + 1))
        self.left = nn.Conv2d(inputs, outputs, (1, reach + 1), bias=False)

    def see_above(self, x: Tensor) -> Tensor:
        k = self.reach
        return self.above(F.pad(x, (k, k, k, 0))[:, :, :-1])  # type: ignore[no-any-return]

    def see_left(self, x: Tensor) -> Tensor:
        return self.left(F.pad(x, (self.reach, 0)))  # type: ignore[no-any-return]


class _MaskedBlock(nn.Module):
    """x + up(relu(conv(relu(down(relu(x)))))), half as wide inside."""

    residual_ends: ClassVar[tuple[str, ...]] = ("up",)

    def __init__(self, width: int, reach: int, told: int, dropout: float) -> None:
        super().__init__()
        inner = max(1, width // 2)
        self.down, self.conv = nn.Conv2d(width, inner, 1), _MaskedConv(inner, inner, reach)
        self.up = nn.Conv2d(inner, width, 1)
        self.told = nn.Linear(told, inner, bias=False) if told else None
        self.drop = Dropout(dropout)

    def narrow(self, x: Tensor) -> Tensor:
        """What the convolution sees of a place."""
        return F.relu(self.down(F.relu(x)))

    def widen(self, x: Tensor, seen: Tensor, told: Tensor | None) -> Tensor:
        if self.told is not None:
            seen = seen + self.told(told)[:, :, None, None]
        return x + self.up(self.drop(F.relu(seen)))


class MaskedStack(RasterStack):
    """One stack of residual blocks with masked convolutions. It does not see what stands above and to the
    right of a place beyond the reach of its blocks' corners: the blind spot of PixelCNN.

    As for `GatedStack`.
    """

    def __init__(
        self, inputs: int, width: int, *, layers: int, reach: int, told: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.reach, self.width = reach, width
        self.enter = _MaskedConv(inputs, width, reach)
        self.blocks = nn.ModuleList(_MaskedBlock(width, reach, told, dropout) for _ in range(layers))

    def _blocks(self) -> list[_MaskedBlock]:
        return [block for block in self.blocks if isinstance(block, _MaskedBlock)]

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        # To the left alone, not itself.
        h = self.enter.see_above(x) + self.enter.see_left(F.pad(x, (1, 0))[..., :-1])
        for block in self._blocks():
            inner = block.narrow(h)
            h = block.widen(h, block.conv.see_above(inner) + block.conv.see_left(inner), told)
        return h

    def _convolutions(self) -> list[_MaskedConv]:
        return [self.enter, *(block.conv for block in self._blocks())]

    @property
    def features(self) -> int:
        return sum(conv.above.out_channels for conv in self._convolutions())

    def row_state(self, columns: int) -> list[tuple[int, ...]]:
        """Of each convolution the rows that it sees, then what it said of the row above."""
        shapes: list[tuple[int, ...]] = []
        for conv in self._convolutions():
            shapes.append((1, conv.above.in_channels, self.reach, columns))
            shapes.append((1, conv.above.out_channels, 1, columns))
        return shapes

    def pixel_state(self) -> list[tuple[int, ...]]:
        return [(1, conv.left.in_channels, 1, self.reach) for conv in self._convolutions()]

    def read_row(self, x: Tensor, told: Tensor | None, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Computes the row above once more, all its places at once, and then looks down from it."""
        there = x[:, -1:]  # 1 where there is a row above (`PixelCnn.encode`)
        said: list[Tensor] = []
        news: list[Tensor] = []

        def look_down(conv: _MaskedConv, x: Tensor, rows: Tensor) -> None:
            window = x * there  # without an empty part where one row is all that is seen
            if self.reach > 1:
                window = torch.cat([rows[:, :, 1:], window], 2)
            said.append(conv.above(_beside(window, self.reach)))
            news.extend((window, said[-1]))

        look_down(self.enter, x, state[0])
        h = state[1] + self.enter.see_left(F.pad(x, (1, 0))[..., :-1])
        for i, block in enumerate(self._blocks()):
            rows, above = state[2 * i + 2], state[2 * i + 3]
            inner = block.narrow(h)
            look_down(block.conv, inner, rows)
            h = block.widen(h, above + block.conv.see_left(inner), told)
        return (torch.cat(said, 1).squeeze(2).transpose(1, 2), *news)

    def read_pixel(
        self, x: Tensor, above: Tensor, told: Tensor | None, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        news: list[Tensor] = []
        at = 0

        def look(conv: _MaskedConv, x: Tensor) -> Tensor:
            nonlocal at
            window = torch.cat([state[len(news)], x], 3)
            news.append(window[..., 1:])
            size = conv.above.out_channels
            seen = above[:, at : at + size, None, None] + conv.left(window)
            at += size
            return seen

        h = look(self.enter, x)
        for block in self._blocks():
            h = block.widen(h, look(block.conv, block.narrow(h)), told)
        return (h.flatten(1), *news)
