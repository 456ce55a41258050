"""A selective state space (Gu & Dao 2023, "Mamba"; Dao & Gu 2024, "Transformers are SSMs", whose form this
is): a linear recurrence whose decay, input and output depend on what is read."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.nn.layers.dropout import Dropout

__all__ = ["SelectiveBlock", "scan", "scan_step"]


def scan_step(x: Tensor, decay: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """S ← e^decay S + x bᵀ, y = S c, for one step.

    x: `(n, heads, d)`; decay: `(n, heads)`, at most 0; b, c: `(n, k)`; state S: `(n, heads, d, k)`
    """
    state = torch.exp(decay)[..., None, None] * state + x.unsqueeze(-1) * b[:, None, None, :]
    return (state * c[:, None, None, :]).sum(-1), state


def scan(x: Tensor, decay: Tensor, b: Tensor, c: Tensor, chunk: int = 32) -> Tensor:
    """`scan_step` over a whole sequence from a state of zeros, `chunk` steps at a time by products of
    matrices:

    y_t = Σ_{s ≤ t in the chunk} (c_t · b_s) e^(decay_{s+1} + … + decay_t) x_s + e^(decay up to t) S c_t.

    x: `(n, T, heads, d)`; decay: `(n, T, heads)`; b, c: `(n, T, k)` → `(n, T, heads, d)`
    """
    length = x.shape[1]
    rest = -length % chunk
    x, b, c = (F.pad(t, (0, 0) * (t.ndim - 2) + (0, rest)) for t in (x, b, c))
    decay = F.pad(decay, (0, 0, 0, rest))
    x, b, c = (t.unflatten(1, (-1, chunk)) for t in (x, b, c))
    total = decay.unflatten(1, (-1, chunk)).transpose(2, 3).cumsum(-1)  # (n, chunks, heads, chunk)
    late = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).triu(1)
    # Differences of sums, not quotients of exponentials: nothing overflows where the decay is fast.
    apart = (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(late, -math.inf)
    weights = torch.exp(apart) * (c @ b.transpose(-1, -2)).unsqueeze(2)  # (n, chunks, heads, t, s)
    values = x.transpose(2, 3)  # (n, chunks, heads, chunk, d)
    inside = weights @ values
    # What each chunk leaves behind, and what the next one finds.
    left = torch.exp(total[..., -1:] - total).unsqueeze(-1) * values
    made = left.transpose(-1, -2) @ b.unsqueeze(2)  # (n, chunks, heads, d, k)
    state, found = torch.zeros_like(made[:, 0]), []
    for i in range(made.shape[1]):
        found.append(state)
        state = torch.exp(total[:, i, :, -1])[..., None, None] * state + made[:, i]
    before = torch.stack(found, 1)
    across = torch.exp(total).unsqueeze(-1) * (c.unsqueeze(2) @ before.transpose(-1, -2))
    y = (inside + across).transpose(2, 3).flatten(1, 2)
    return y[:, :length]


class SelectiveBlock(nn.Module):
    """x + out(norm(y ⊙ silu(z))) with y the scan of a short causal convolution's outputs.

    width:  of the stream; inner: channels of the scan, a multiple of `heads`
    state:  numbers that each channel remembers
    kernel: steps that the convolution sees
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("out",)

    def __init__(
        self, width: int, inner: int, heads: int, state: int, kernel: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.state, self.kernel, self.inner = heads, state, kernel, inner
        self.norm = nn.LayerNorm(width)
        self.enter, self.gate = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.b, self.c = nn.Linear(width, state, bias=False), nn.Linear(width, state, bias=False)
        self.rate = nn.Linear(width, heads)
        self.conv = nn.Conv1d(inner, inner, kernel, groups=inner)
        self.decay, self.skip = nn.Parameter(torch.zeros(heads)), nn.Parameter(torch.ones(heads))
        self.out_norm, self.out = nn.LayerNorm(inner), nn.Linear(inner, width, bias=False)
        self.drop = Dropout(dropout)

    def initialize(self) -> None:
        """Heads that forget within 1 to 16 steps a unit of time, and units of time from a thousandth to a
        tenth."""
        with torch.no_grad():
            self.decay.copy_(torch.linspace(1.0, 16.0, self.heads).log())
            rates = torch.exp(torch.linspace(math.log(1e-3), math.log(0.1), self.heads))
            self.rate.bias.copy_(rates + torch.log(-torch.expm1(-rates)))  # softplus⁻¹

    def _read(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of normed tokens: unit of time `(…, heads)`, its decay, b, c."""
        rate = F.softplus(self.rate(h))
        return rate, -rate * torch.exp(self.decay), self.b(h), self.c(h)

    def _leave(self, x: Tensor, y: Tensor, h: Tensor) -> Tensor:
        out: Tensor = self.out(self.out_norm(y.flatten(-2) * F.silu(self.gate(h))))
        return x + self.drop(out)

    def forward(self, x: Tensor) -> Tensor:
        """A whole sequence `(n, T, width)`."""
        h = self.norm(x)
        u = F.pad(self.enter(h).transpose(1, 2), (self.kernel - 1, 0))
        u = F.silu(self.conv(u)).transpose(1, 2).unflatten(-1, (self.heads, -1))
        rate, decay, b, c = self._read(h)
        y = scan(u * rate.unsqueeze(-1), decay, b, c) + u * self.skip[:, None]
        return self._leave(x, y, h)

    def step(self, x: Tensor, seen: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One token `(n, width)`; seen: what the convolution saw before `(n, inner, kernel − 1)`; state: of
        the scan `(n, heads, d, k)`. Returns the token, and both as they are after it."""
        h = self.norm(x)
        window = torch.cat([seen, self.enter(h).unsqueeze(-1)], -1)
        u = F.silu(self.conv(window)).squeeze(-1).unflatten(-1, (self.heads, -1))
        rate, decay, b, c = self._read(h)
        y, state = scan_step(u * rate.unsqueeze(-1), decay, b, c, state)
        return self._leave(x, y + u * self.skip[:, None], h), window[..., 1:], state
