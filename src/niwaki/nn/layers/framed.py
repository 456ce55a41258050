"""Convolutions between sound and frames of it, and among frames. All are matrices over neighbouring frames
side by side: on a CPU bfloat16 multiplies them several times as fast as it convolves, backwards above all."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FrameBlock", "Frames", "Steps", "side_by_side"]


def side_by_side(x: Tensor, kernel: int) -> Tensor:
    """`(n, T, width)` → each frame between its neighbours `(n, T, kernel·width)`; zeros beyond the ends."""
    reach, length = kernel // 2, x.shape[1]
    padded = F.pad(x, (0, 0, reach, reach))
    return torch.cat([padded[:, i : i + length] for i in range(kernel)], -1)


class FrameBlock(nn.Module):
    """x + out(gelu(conv(x))) on `(n, T, width)`.

    hidden: between the two layers; kernel: of the first one, odd
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("out",)

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.conv, self.out = nn.Linear(kernel * width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.out(F.gelu(self.conv(side_by_side(x, self.kernel))))
        return out


class Frames(nn.Module):
    """`(n, T·stride, inputs)` → `(n, T, outputs)`: a convolution over 3·stride steps; a frame sees its own
    and those of both neighbours."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Linear(3 * stride * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        cut = x.reshape(n, length // self.stride, self.stride * width)
        out: Tensor = self.conv(side_by_side(cut, 3))
        return out


class Steps(nn.Module):
    """`(n, T, inputs)` → `(n, T·stride, outputs)`: a transposed convolution of 3·stride steps, whose frames
    overlap with both neighbours and are added up."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.outputs = stride, outputs
        self.conv = nn.Linear(inputs, 3 * stride * outputs)

    def forward(self, x: Tensor) -> Tensor:
        n, length = x.shape[:2]
        before, here, after = self.conv(x).chunk(3, -1)
        y = here + F.pad(before[:, 1:], (0, 0, 0, 1)) + F.pad(after[:, :-1], (0, 0, 1, 0))
        return y.reshape(n, length * self.stride, self.outputs)
