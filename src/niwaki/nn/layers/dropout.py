"""Dropout whose masks are cheap on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Dropout"]

_VALUES = 2**16
"""Of 16 random bits."""


class Dropout(nn.Dropout):
    """Leaves out each value with probability p in training, and scales the others by 1/(1 − p).

    torch draws one Bernoulli number after another on a CPU, which took a fifth of a flow's training step.
    Here one word of its generator decides over four values: p counts as the nearest multiple of 2⁻¹⁶.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        dropped = round(self.p * _VALUES)
        if not 0 < dropped < _VALUES:
            return super().forward(x)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = (bits >= dropped - _VALUES // 2).to(x.dtype)
        return x * kept.mul_(_VALUES / (_VALUES - dropped))
