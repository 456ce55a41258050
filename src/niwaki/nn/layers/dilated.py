"""Causal convolutions whose reach doubles from layer to layer (van den Oord et al. 2016, "WaveNet")."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.nn.layers.dropout import Dropout

__all__ = ["DilatedBlock", "depth_for"]


def depth_for(length: int, kernel: int = 3) -> int:
    """Blocks with dilations 1, 2, 4 … whose last step sees `length` steps: 1 + (kernel − 1)(2^depth − 1)."""
    depth = 1
    while 1 + (kernel - 1) * (2**depth - 1) < length:
        depth += 1
    return depth


class DilatedBlock(nn.Module):
    """x + out(relu(conv(relu(x)))): `(n, width, T)` at any T; a step sees itself and those before it.

    width: of the stream; hidden: between the two convolutions; dilation: steps between taps
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("out",)

    def __init__(
        self, width: int, hidden: int, dilation: int, *, kernel: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.conv = nn.Conv1d(width, hidden, kernel, dilation=dilation)
        self.out = nn.Conv1d(hidden, width, 1)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.conv(F.pad(F.relu(x), (self.reach, 0))))
        out: Tensor = x + self.drop(self.out(h))
        return out
