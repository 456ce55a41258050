"""Gated causal convolutions of two taps, over whole sequences or one step at a time (van den Oord et al.
2016, "WaveNet: A Generative Model for Raw Audio", Section 2.3)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.nn.layers.dropout import Dropout

__all__ = ["GatedDilated"]


class GatedDilated(nn.Module):
    """z = tanh(a) ⊙ σ(b), [a, b] = W [x(t − dilation), x(t)]; what is added to the stream is linear in z.

    The two taps are layers of their own, and so are a and b: what is said of the past is then known before a
    step begins, and an engine makes one operation of each product, the sum and the function after it.

    width: of the stream; hidden: of z; dilation: steps between the taps; last: nothing reads the stream after
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("out",)

    def __init__(
        self, width: int, hidden: int, dilation: int, dropout: float = 0.0, *, last: bool = False
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.past = nn.Linear(width, 2 * hidden)
        self.filter, self.gate = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.out = None if last else nn.Linear(hidden, width, bias=False)
        self.drop = Dropout(dropout)

    def initialize(self) -> None:
        """Uniform within ±1/√inputs, of both taps together; what is added begins small."""
        for layer in (self.past, self.filter, self.gate):
            layer.reset_parameters()
            with torch.no_grad():
                layer.weight *= 0.5**0.5
        if self.out is not None:
            self.out.reset_parameters()
            with torch.no_grad():
                self.out.weight *= 0.5

    def told(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """The shares of a and b `(…, hidden)` that the stream a dilation ago `(…, width)` says."""
        a, b = self.past(past).chunk(2, -1)
        return a, b

    def step(self, told: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """What the past says, and the stream now `(…, width)` → the stream after it, z `(…, hidden)`."""
        a, b = self.filter(x) + told[0], self.gate(x) + told[1]
        z = self.drop(torch.tanh(a) * torch.sigmoid(b))
        return x if self.out is None else x + self.out(z), z

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(n, T, width)` → the same, z `(n, T, hidden)`; before the first step there is silence."""
        past = F.pad(x, (0, 0, self.dilation, 0))[:, : x.shape[1]]
        return self.step(self.told(past), x)
