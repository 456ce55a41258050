"""A transformer over codes of growing scales: those of a scale see each other and all coarser ones (Tian et
al. 2024, "VAR", Section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import State
from niwaki.nn.layers.causal import BlockStyle, CausalBlock
from niwaki.nn.layers.dropout import Dropout
from niwaki_runtime.samplers import NextScale

__all__ = ["ScalePrior"]

_STYLE = BlockStyle(feed_forward="gelu", bias=True, causal=False)


class ScalePrior(nn.Module):
    """p(codes | class) = Π p(codes of scale k | coarser ones, class), independent within a scale.

    What it is told at a place is the sum of all coarser scales there, at the size of its scale.

    codes:   how many there are
    sizes:   (height, width) of each scale
    dim:     of the vectors that it is told
    classes: 0 without them
    """

    counts: Tensor  # (scales,), places of each
    starts: Tensor  # (scales,), where each begins
    seen: Tensor  # (length, length), which places each sees in training

    def __init__(
        self, codes: int, sizes: tuple[tuple[int, int], ...], dim: int, classes: int, *,
        width: int, heads: int, layers: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.codes, self.classes, self.heads = codes, classes, heads
        counts = torch.tensor([height * width for height, width in sizes])
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)
        scale = torch.arange(len(sizes)).repeat_interleave(counts)
        self.register_buffer("seen", scale[:, None] >= scale, persistent=False)
        self.length = int(counts.sum())
        self.enter = nn.Linear(dim, width)
        self.place = nn.Embedding(self.length, width)  # of every scale its own
        self.embed = nn.Embedding(classes, width) if classes else None
        for table in (self.place, self.embed):
            if table is not None:
                nn.init.normal_(table.weight, std=0.5)
        self.drop = Dropout(dropout)
        self.blocks = nn.ModuleList(
            CausalBlock(width, heads, 4 * width, dropout, _STYLE) for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, codes)

    def _enter(self, told: Tensor, places: Tensor, y: Tensor | None) -> Tensor:
        x = self.enter(told) + self.place(places)
        return x if self.embed is None else x + self.embed(y)[:, None]

    def forward(self, told: Tensor, y: Tensor | None = None) -> Tensor:
        """What is told at all places of all scales `(n, length, dim)` → logits `(n, length, codes)`."""
        x = self.drop(self._enter(told, torch.arange(self.length, device=told.device), y))
        for block in self.blocks:
            x = block(x, None, self.seen)
        return self.head(self.norm(x))

    def loss(self, told: Tensor, numbers: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """Cross-entropy of codes `(n, length)`, in nats per code."""
        logits = self(told, y)
        return {"nll": F.cross_entropy(logits.float().flatten(0, 1), numbers.flatten())}

    def step(self, told: Tensor, scale: Tensor, places: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """One scale `(1,)` at `places` `(t,)`, told `(n, t, dim)`, of which the first are its own and the
        rest fills up; the class if there is one, caches → logits `(n, t, codes)`, new rows."""
        y, caches = (None, rest) if self.embed is None else (rest[0], rest[1:])
        start, count = self.starts[scale], self.counts[scale]
        x = self._enter(told, places, y)
        rows: list[Tensor] = []
        for block, k, v in zip(self.blocks, caches[::2], caches[1::2], strict=True):
            x, new_k, new_v = block.read(x, None, start, k, v, count)  # type: ignore[operator]
            rows += [new_k, new_v]
        return (self.head(self.norm(x)), *rows)

    def carried(self) -> tuple[State, ...]:
        """Keys and values of every block; what is written of places that fill up is written over."""
        state = []
        for i, block in enumerate(self.blocks):
            for letter, layer in (("key", block.attention.k), ("value", block.attention.v)):  # type: ignore
                shape = (1, self.heads, self.length, int(layer.out_features) // self.heads)  # type: ignore
                state.append(State(f"{letter}_{i}", f"{letter}_{i}_new", shape))
        return tuple(state)

    def writing(self, asking: Mapping[str, Any]) -> NextScale:
        """Codes of one scale after the other, by the graph `prior`; asking: of which it takes the names of
        its conditions."""
        return NextScale(tuple(int(count) for count in self.counts), "prior", asking["conditions"])

    def coding(self, asking: Mapping[str, Any]) -> None:
        """None: it says a whole scale at once."""
