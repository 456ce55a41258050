"""LSTM and GRU: over whole sequences, or one step at a time with their state."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["CELLS", "Cell", "Gru", "Lstm", "RecurrentLayer"]

Cell = Literal["lstm", "gru"]


class RecurrentLayer(nn.Module):
    """`inner(x_t)` and `outer(h)` give the gates of all units, one kind after another.

    Attributes:
        hidden: units
        gates:  kinds of them
        parts:  tensors `(n, hidden)` of the state; the first is what the layer says
    """

    gates: int
    parts: int

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.inner = nn.Linear(inputs, self.gates * hidden)
        self.outer = nn.Linear(hidden, self.gates * hidden)
        self.initialize()

    def initialize(self) -> None:
        """Uniform within ±1/√hidden, as usual for recurrent layers."""
        bound = 1.0 / math.sqrt(self.hidden)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def gate(self, given: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """`inner` of this step `(n, gates·hidden)` and the state → the state after it."""
        raise NotImplementedError

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """x `(n, inputs)` and the state → the state after it; its first part is the output."""
        return self.gate(self.inner(x), *state)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, T, inputs)` → `(n, T, hidden)`, from a state of zeros."""
        return self.run(x)[0]

    def run(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same, and the state after the last step."""
        given = self.inner(x)  # of all steps at once
        state = tuple(x.new_zeros(x.shape[0], self.hidden) for _ in range(self.parts))
        said = []
        for now in given.unbind(1):
            state = self.gate(now, *state)
            said.append(state[0])
        return torch.stack(said, 1), state


class Lstm(RecurrentLayer):
    """c ← σ(f) c + σ(i) tanh(g), h ← σ(o) tanh(c); gates in the order i, f, g, o."""

    gates, parts = 4, 2

    def initialize(self) -> None:
        super().initialize()
        with torch.no_grad():  # remember at first (Jozefowicz et al. 2015)
            self.inner.bias[self.hidden : 2 * self.hidden] = 1.0
            self.outer.bias[self.hidden : 2 * self.hidden] = 0.0

    def gate(self, given: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        h, c = state
        i, f, g, o = (given + self.outer(h)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class Gru(RecurrentLayer):
    """n = tanh(aₙ + r bₙ), h ← (1 − z) n + z h with a = inner(x), b = outer(h); gates are r, z, n."""

    gates, parts = 3, 1

    def gate(self, given: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        (h,) = state
        (ra, za, na), (rb, zb, nb) = given.chunk(3, -1), self.outer(h).chunk(3, -1)
        r, z = torch.sigmoid(ra + rb), torch.sigmoid(za + zb)
        n = torch.tanh(na + r * nb)
        return ((1 - z) * n + z * h,)


CELLS: dict[str, type[RecurrentLayer]] = {"lstm": Lstm, "gru": Gru}
