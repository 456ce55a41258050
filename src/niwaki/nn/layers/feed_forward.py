"""Networks that each token passes by itself: the second half of a transformer's block."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FeedForward", "activated", "feed_forward_layers"]

FeedForward = Literal["squared_relu", "gelu", "swiglu"]


def feed_forward_layers(
    width: int, hidden: int, kind: FeedForward
) -> tuple[nn.Linear, nn.Linear, nn.Linear | None]:
    """The layers `up`, `down` and, for `swiglu`, which has no biases, `gate`."""
    biased = kind != "swiglu"
    gate = None if biased else nn.Linear(width, hidden, bias=False)
    return nn.Linear(width, hidden, biased), nn.Linear(hidden, width, biased), gate


def activated(x: Tensor, up: nn.Module, gate: nn.Module | None, kind: FeedForward) -> Tensor:
    """What `down` reads: act(up(x)), or silu(gate(x)) ⊙ up(x) (Shazeer 2020)."""
    h: Tensor = up(x)
    if gate is not None:
        return F.silu(gate(x)) * h
    if kind == "gelu":
        return F.gelu(h, approximate="tanh")
    return F.relu(h).square()
