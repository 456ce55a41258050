"""A small causal transformer over codes: all at once in training, one by one with a cache in sampling.

Priors of codes answer to `loss`, `graph`, `writing` and `coding`; another is `masked_prior`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import Graph, Port, State, View
from niwaki.nn.layers.dropout import Dropout
from niwaki_runtime.samplers import Autoregressive, DirectCoding

__all__ = ["CodePrior"]


class _Block(nn.Module):
    """Pre-norm attention and feed-forward (Vaswani et al. 2017; the order of Radford et al. 2019)."""

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


class CodePrior(nn.Module):
    """p(codes | class) = Π p(code i | codes before it, class).

    codes:   how many there are; the number `codes` itself stands before the first one
    length:  codes of a sample
    classes: 0 without them
    books:   whose codes follow each other in turn, where those of each have vectors and logits of their own
    """

    def __init__(
        self, codes: int, length: int, classes: int, books: int = 1, *,
        width: int, heads: int, layers: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.codes, self.length, self.classes, self.books = codes, length, classes, books
        self.token = nn.Embedding(books * codes + 1, width)
        self.place = self.make_places(width)
        self.embed = nn.Embedding(classes, width) if classes else None
        for table in (self.token, *self.place.modules(), self.embed):
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=0.5)
        self.drop = Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, books * codes)

    def _told(self, numbers: Tensor, at: Tensor) -> Tensor:
        """Vectors of the numbers that are read at the places `at`: those of the code before each of them."""
        # At the first place stands the number `codes`, in the row after those of the last book.
        return self.token(
            numbers if self.books == 1 else numbers + self.codes * ((at + self.books - 1) % self.books)
        )

    def make_places(self, width: int) -> nn.Module:
        """Vectors of places: their numbers `(t,)` → `(t, width)`."""
        return nn.Embedding(self.length, width)

    def forward(self, numbers: Tensor, y: Tensor | None = None) -> Tensor:
        """Codes `(n, length)` → logits of each given those before it `(n, length, codes)`."""
        fed = F.pad(numbers[:, :-1], (1, 0), value=self.codes)
        at = torch.arange(self.length, device=fed.device)
        x = self._told(fed, at) + self.place(at)
        if self.embed is not None:
            x = x + self.embed(y)[:, None]
        x = self.drop(x)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        if self.books == 1:
            return logits
        own = logits.unflatten(-1, (self.books, self.codes)).unflatten(1, (-1, self.books))
        return own.diagonal(dim1=2, dim2=3).movedim(-1, 2).flatten(1, 2)

    def loss(self, numbers: Tensor, y: Tensor | None, rng: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy of codes `(n, length)`, in nats per code."""
        logits = self(numbers, y)
        return {"nll": F.cross_entropy(logits.float().flatten(0, 1), numbers.flatten())}

    def writing(self, conditions: tuple[str, ...]) -> Autoregressive:
        """Codes, one after another, by the graph `prior`."""
        return Autoregressive(length=self.length, first=self.codes, graph="prior", conditions=conditions)

    def coding(self, conditions: tuple[str, ...]) -> DirectCoding | None:
        """How images are coded by what it says of their codes."""
        return DirectCoding.of(self.writing(conditions), read="encoder", draw="decoder")

    def step(self, token: Tensor, at: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """token `(n,)`, its place `(1,)`, the class if there is one, caches → logits `(n, codes)`, rows."""
        x = (self._told(token, at) + self.place(at))[:, None]
        caches = rest
        if self.embed is not None:
            x, caches = x + self.embed(rest[0])[:, None], rest[1:]
        rows: list[Tensor] = []
        for block, k, v in zip(self.blocks, caches[::2], caches[1::2], strict=True):
            x, new_k, new_v = block.step(x, at, k, v)  # type: ignore[operator]
            rows += [new_k, new_v]
        logits = self.head(self.norm(x))[:, 0]
        if self.books > 1:
            logits = logits.unflatten(-1, (self.books, self.codes)).index_select(1, at % self.books)[:, 0]
        return (logits, *rows)

    def graph(self) -> Graph:
        """One step, its caches as state."""
        ports = [
            Port("token", (1,), "int64", high=self.codes),
            Port("position", (1,), "int64", batch_axis=None, high=self.length),
        ]
        if self.classes:
            ports.append(Port("class", (1,), "int64", high=self.classes))
        state = []
        for i, block in enumerate(self.blocks):
            for name, layer in (("k", block.k), ("v", block.v)):
                shape = (1, self.length, int(layer.out_features))  # type: ignore
                state.append(State(f"{name}{i}", f"{name}{i}_row", shape))
        return Graph("prior", View(self, "step"), tuple(ports), ("logits",), tuple(state))
