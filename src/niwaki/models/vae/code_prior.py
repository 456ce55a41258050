"""A small causal transformer over codes: all at once in training, one by one with a cache in sampling.

Priors of codes answer to `loss`, `graph`, `writing` and `coding`; another is `masked_prior`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import Graph, Port, State, View
from niwaki.models.vae.asked_prior import AskedPrior
from niwaki.nn.layers.dropout import Dropout
from niwaki_runtime.samplers import Autoregressive, DirectCoding

__all__ = ["CodePrior"]


class _Block(nn.Module):
    """Pre-norm attention and feed-forward (Vaswani et al. 2017; the order of Radford et al. 2019)."""

    residual_ends: ClassVar[tuple[str, ...]] = ("out", "down")

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = Dropout(dropout)

    def _split(self, x: Tensor) -> Tensor:
        """(n, L, heads·d) → (n, heads, L, d)"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)))))

    def forward(self, x: Tensor) -> Tensor:
        """All places `(n, L, width)`; each sees those up to itself."""
        h = self.norm1(x)
        q, k, v = self._split(self.q(h)), self._split(self.k(h)), self._split(self.v(h))
        if q.requires_grad:
            late = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=x.device).triu(1)
            scores = ((q * self.scale) @ k.transpose(2, 3)).masked_fill(late, float("-inf"))
            mixed = scores.softmax(-1).to(v.dtype) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        return self._feed_forward(x + self.drop(self.out(mixed.transpose(1, 2).flatten(2))))

    def step(self, x: Tensor, at: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One place `(n, 1, width)` and the rows before it `(n, L, width)` → its output, its rows."""
        h = self.norm1(x)
        new_k, new_v = self.k(h), self.v(h)
        places = torch.arange(k.shape[1], device=x.device)
        here = (places == at)[None, :, None]
        keys, values = torch.where(here, new_k, k), torch.where(here, new_v, v)
        scores = (self._split(self.q(h)) * self.scale) @ self._split(keys).transpose(2, 3)
        scores = torch.where((places <= at)[None, None, None, :], scores, torch.full_like(scores, -1e9))
        mixed = scores.softmax(-1) @ self._split(values)
        return self._feed_forward(x + self.out(mixed.transpose(1, 2).flatten(2))), new_k, new_v


class CodePrior(AskedPrior):
    """p(codes | asked) = Π p(code i | codes before it, asked).

    codes:   how many there are; the number `codes` itself stands before the first one (`first`)
    length:  codes of a sample
    classes, texts: as of `AskedPrior`
    books:   whose codes follow each other in turn, where those of each have vectors and logits of their own
    """

    def __init__(
        self, codes: int, length: int, classes: int, books: int = 1, *,
        width: int, heads: int, layers: int, dropout: float, texts: Sequence[tuple[int, ...]] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.codes, self.first, self.length, self.books = codes, codes, length, books
        self.token = nn.Embedding(books * codes + 1, width)
        self.place = self.make_places(width)
        self.prepare_label(classes, width)
        for table in (self.token, *self.place.modules(), self.embed):
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=0.5)
        self.drop = Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, books * codes)
        self.prepare_texts(texts, width, heads, layers)

    def _fed(self, numbers: Tensor, at: Tensor) -> Tensor:
        """Vectors of the numbers that are read at the places `at`: those of the code before each of them."""
        # At the first place stands the number `codes`, in the row after those of the last book.
        return self.token(
            numbers if self.books == 1 else numbers + self.codes * ((at + self.books - 1) % self.books)
        )

    def make_places(self, width: int) -> nn.Module:
        """Vectors of places: their numbers `(t,)` → `(t, width)`."""
        return nn.Embedding(self.length, width)

    def forward(self, numbers: Tensor, *asked: Tensor) -> Tensor:
        """Codes `(n, length)` → logits of each given those before it `(n, length, codes)`."""
        fed = F.pad(numbers[:, :-1], (1, 0), value=self.first)
        at = torch.arange(self.length, device=fed.device)
        added, words = self.told(asked)
        x = self.drop(self._fed(fed, at) + self.place(at) + added)
        for i, block in enumerate(self.blocks):
            x = block(self.look_up(x, i, words))
        return self._said(self.head(self.norm(x)), at)

    def _said(self, logits: Tensor, at: Tensor) -> Tensor:
        """Of what the head says `(n, t, all)` the logits of what may stand at the places `at` `(t,)`."""
        if self.books == 1:
            return logits
        own = logits.unflatten(-1, (self.books, self.codes))
        if len(at) == 1:
            return own.index_select(2, at % self.books)[:, :, 0]
        own = own.unflatten(1, (-1, self.books))
        return own.diagonal(dim1=2, dim2=3).movedim(-1, 2).flatten(1, 2)

    def loss(self, numbers: Tensor, asked: Sequence[Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy of codes `(n, length)`, in nats per code."""
        logits = self(numbers, *asked)
        return {"nll": F.cross_entropy(logits.float().flatten(0, 1), numbers.flatten())}

    def writing(self, asking: Mapping[str, Any]) -> Autoregressive:
        """Codes, one after another, by the graph `prior`; asking: fields of the sampler (`Asked.asking`)."""
        return Autoregressive(length=self.length, first=self.first, graph="prior", **asking)

    def coding(self, asking: Mapping[str, Any]) -> DirectCoding | None:
        """How images are coded by what it says of their codes; None where it is asked by captions."""
        return None if self.texts else DirectCoding.of(self.writing(asking), read="encoder", draw="decoder")

    def step(self, token: Tensor, at: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """token `(n,)`, its place `(1,)`, what is asked, caches → logits `(n, codes)`, rows."""
        asked, caches = rest[: self.questions], rest[self.questions :]
        added, words = self.told(asked)
        x = (self._fed(token, at) + self.place(at))[:, None] + added
        rows: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = self.look_up(x, i, words)
            x, new_k, new_v = block.step(x, at, caches[2 * i], caches[2 * i + 1])  # type: ignore[operator]
            rows += [new_k, new_v]
        return (self._said(self.head(self.norm(x)), at)[:, 0], *rows)

    def graph(self, asked: Sequence[Port]) -> Graph:
        """One step, its caches as state."""
        ports = [
            Port("token", (1,), "int64", high=self.first),
            Port("position", (1,), "int64", batch_axis=None, high=self.length),
            *asked,
        ]
        state = []
        for i, block in enumerate(self.blocks):
            for name, layer in (("k", block.k), ("v", block.v)):
                shape = (1, self.length, int(layer.out_features))  # type: ignore
                state.append(State(f"{name}{i}", f"{name}{i}_row", shape))
        return Graph("prior", View(self, "step"), tuple(ports), ("logits",), tuple(state))
