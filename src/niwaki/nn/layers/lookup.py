"""Attention to something else: tokens of a picture look words up."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from niwaki.core.contract import CallError
from niwaki.nn.layers.attention import attend

__all__ = ["Lookup"]


class Lookup(nn.Module):
    """x + out(softmax(q kᵀ/√d) v): queries of x, keys and values of what is looked up (Vaswani et al. 2017,
    Section 3.2.3).

    Query, key, value and output are separate, and the width of a head is inferred from them. The scale 1/√d
    is that of the uncut head.

    width: of x; heads: must divide it
    given: width of what is looked up
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("out",)

    def __init__(self, width: int, heads: int, given: int) -> None:
        super().__init__()
        if width % heads:
            raise CallError(f"a width of {width} cannot be shared by {heads} heads")
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.norm = nn.LayerNorm(width)
        self.q, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.k, self.v = nn.Linear(given, width), nn.Linear(given, width)

    def _split(self, x: Tensor) -> Tensor:
        """(n, L, heads·d) → (n, heads, L, d)"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        """x `(n, L, width)`, given `(n, T, given)`."""
        q, k, v = self._split(self.q(self.norm(x))), self._split(self.k(given)), self._split(self.v(given))
        out: Tensor = x + self.out(attend(q, k, v, self.scale).transpose(1, 2).flatten(2))
        return out
