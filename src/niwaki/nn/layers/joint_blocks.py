"""Transformer blocks that a condition modulates (Peebles & Xie 2023, "DiT"), with one set of weights for all
tokens or one for each kind that attend to each other (Esser et al. 2024, "MMDiT")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError
from niwaki.nn.layers.attention import attend
from niwaki.nn.layers.feed_forward import FeedForward, activated, feed_forward_layers

__all__ = ["AdaptiveNorm", "JointBlock", "Stream", "zero_init"]


def zero_init(layer: nn.Linear) -> nn.Linear:
    """`layer` with nothing but zeros."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class AdaptiveNorm(nn.Module):
    """norm(x)·(1 + scale(c)) + shift(c) of tokens `(n, T, width)` and a condition c `(n, width)`.

    Scale and shift begin at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.scale, self.shift = zero_init(nn.Linear(width, width)), zero_init(nn.Linear(width, width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = (1.0 + self.scale(c))[:, None], self.shift(c)[:, None]
        # In the precision of matrix products: else under autocast every layer that reads it casts it again.
        return self.norm(x).to(scale.dtype) * scale + shift


class Stream(nn.Module):
    """What one set of tokens passes in a block, around the attention: adaptive norms, projections, an MLP.

    Its gates begin at zero, so that a block begins as its skip ("adaLN-Zero").

    Layers stay apart by what they make (shift, scale, gate; query, key, value): an optimizer that
    orthogonalises updates sees each as one matrix, and widths of heads can be cut.

    style:  how the MLP is made (`feed_forward_layers`)
    silent: a stream that is only looked at, and ends there: the last block's text
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("out", "down")

    def __init__(
        self, width: int, heads: int, hidden: int, style: FeedForward = "gelu", *, silent: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.style, self.silent = heads, style, silent
        self.norm1 = AdaptiveNorm(width)
        self.k, self.v = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        if not silent:
            self.q, self.out = nn.Linear(width, width), nn.Linear(width, width)
            self.norm2 = AdaptiveNorm(width)
            self.up, self.down, self.gate = feed_forward_layers(width, hidden, style)
            self.gate1, self.gate2 = (zero_init(nn.Linear(width, width)) for _ in range(2))

    def _split(self, x: Tensor) -> Tensor:
        """(n, T, heads·d) → (n, heads, T, d)"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, x: Tensor, c: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Queries (none of a silent stream), keys and values."""
        h = self.norm1(x, c)
        q = None if self.silent else self._split(self.q(h))
        return q, self._split(self.k(h)), self._split(self.v(h))

    def receive(self, x: Tensor, mixed: Tensor, c: Tensor) -> Tensor:
        """The tokens after what the attention brought `(n, T, heads·d)`, and after the MLP."""
        x = x + self.gate1(c)[:, None] * self.out(mixed)
        h = activated(self.norm2(x, c), self.up, self.gate, self.style)
        return x + self.gate2(c)[:, None] * self.down(h)


class JointBlock(nn.Module):
    """Streams whose tokens attend to all tokens of all streams; silent ones stand last.

    width: of tokens; heads: must divide it; hidden: width of the MLPs, made as `style` says
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        style: FeedForward = "gelu",
        *,
        streams: int = 1,
        silent: int = 0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise CallError(f"a width of {width} cannot be shared by {heads} attention heads")
        self.scale = (width // heads) ** -0.5
        self.streams = nn.ModuleList(
            Stream(width, heads, hidden, style, silent=i >= streams) for i in range(streams + silent)
        )

    def forward(self, tokens: Sequence[Tensor], c: Tensor) -> list[Tensor]:
        """Tokens `(n, T, width)` of every stream, and the condition `(n, width)` → those of all that are not
        silent."""
        queries, keys, values = [], [], []
        for stream, x in zip(self.streams, tokens, strict=True):
            q, k, v = stream.project(x, c)  # type: ignore[operator]
            keys.append(k)
            values.append(v)
            if q is not None:
                queries.append(q)
        mixed = attend(_beside(queries), _beside(keys), _beside(values), self.scale)
        parts = torch.split(mixed.transpose(1, 2).flatten(2), [q.shape[2] for q in queries], dim=1)
        return [
            stream.receive(x, part, c)  # type: ignore[operator]
            for stream, x, part in zip(self.streams, tokens, parts, strict=False)
        ]


def _beside(parts: list[Tensor]) -> Tensor:
    """Tokens `(n, heads, T, d)` of all streams in one row."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
