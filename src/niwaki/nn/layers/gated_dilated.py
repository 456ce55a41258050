"""Gated causal convolutions of two taps, over whole sequences or one step at a time (van den Oord et al.
2016, "WaveNet: A Generative Model for Raw Audio", Section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.nn.layers.dropout import Dropout

__all__ = ["GatedDilated"]


class GatedDilated(nn.Module):
    """z = tanh(a) ⊙ σ(b), [a, b] = W [x(t − dilation), x(t)]; what is added to the stream is linear in z.

    width: of the stream; hidden: of z; dilation: steps between the taps; last: nothing reads the stream after
    """

    def __init__(
        self, width: int, hidden: int, dilation: int, dropout: float = 0.0, *, last: bool = False
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.gate = nn.Linear(2 * width, 2 * hidden)
        self.out = None if last else nn.Linear(hidden, width)
        self.drop = Dropout(dropout)

    def initialize(self) -> None:
        """Uniform within ±1/√inputs; what is added begins small."""
        self.gate.reset_parameters()
        if self.out is not None:
            self.out.reset_parameters()
            with torch.no_grad():
                self.out.weight *= 0.5

    def step(self, past: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The stream a dilation ago and now `(…, width)` → the stream after it, z `(…, hidden)`."""
        a, b = self.gate(torch.cat([past, x], -1)).chunk(2, -1)
        z = self.drop(torch.tanh(a) * torch.sigmoid(b))
        return x if self.out is None else x + self.out(z), z

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(n, T, width)` → the same, z `(n, T, hidden)`; before the first step there is silence."""
        past = F.pad(x, (0, 0, self.dilation, 0))[:, : x.shape[1]]
        return self.step(past, x)
