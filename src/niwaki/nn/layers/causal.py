"""Self-attention, causal unless told otherwise, and the blocks made of it: over a whole sequence, or over a
cache when sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import CallError
from niwaki.nn.layers.attention import attend
from niwaki.nn.layers.dropout import Dropout
from niwaki.nn.layers.experts import Experts
from niwaki.nn.layers.feed_forward import FeedForward, activated, feed_forward_layers

__all__ = [
    "BlockStyle",
    "CausalAttention",
    "CausalBlock",
    "Norm",
    "RmsNorm",
    "Rotary",
    "norm_of",
]

Norm = Literal["layer", "rms"]
Turn = tuple[Tensor, Tensor] | None

_FAR = -1e9  # instead of −∞: bfloat16 holds it, and a row with nothing to see stays finite


class Rotary(nn.Module):
    """Turns pairs of channels by an angle that grows with the position, so that products of queries and keys
    depend on their distance (Su et al. 2021, "RoFormer", arXiv:2104.09864).

    length: positions that there are
    dim:    width of a head, even
    base:   the slowest pair turns once in about 2π·base positions
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, length: int, dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        rates = base ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
        angles = torch.arange(length, dtype=torch.float64)[:, None] * rates  # (length, dim/2)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines `(tokens, dim/2)` of the angles at `places` `(tokens,)` int64."""
        return self.cos[places], self.sin[places]


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """`x` `(n, heads, tokens, dim)` with channel i of the first half and of the second turned together."""
    cos, sin = (angle.to(x.dtype) for angle in turn)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class RmsNorm(nn.Module):
    """x / √(mean x² + ε) · weight (Zhang & Sennrich 2019): neither a mean nor a bias."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        h = x.float()
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


def norm_of(kind: Norm, width: int, eps: float = 1e-5) -> nn.Module:
    return RmsNorm(width, eps) if kind == "rms" else nn.LayerNorm(width, eps=eps)


@dataclass(frozen=True)
class BlockStyle:
    """In what blocks of causal transformers differ.

    norm:         `layer`, or `rms` without mean and bias
    feed_forward: down(act(up(x))) with a `squared_relu` or `gelu` (its approximation by tanh, as in GPT-2),
                  or `swiglu`, down(silu(gate(x)) ⊙ up(x)) without biases (Shazeer 2020)
    kv_heads:     of keys and values, each read by as many heads of queries (Ainslie et al. 2023); None is one
                  for each
    window:       tokens that one sees, itself included (Beltagy et al. 2020); None is all before it
    bias:         of the layers of the attention
    eps:          of the norms
    causal:       whether a token sees those before it alone; else it sees all
    experts:      networks in the place of each block's one, of which every token passes `chosen`; 0 is one
    """

    norm: Norm = "layer"
    feed_forward: FeedForward = "squared_relu"
    kv_heads: int | None = None
    window: int | None = None
    bias: bool = False
    eps: float = 1e-5
    causal: bool = True
    experts: int = 0
    chosen: int = 2


class CausalAttention(nn.Module):
    """out(softmax(q kᵀ/√d + mask) v): a token sees itself and those before it (Vaswani et al. 2017).

    Query, key, value and output are separate, and the width of a head is inferred from them. The scale 1/√d
    is that of the uncut head: cutting channels that are zero changes nothing.

    width: of the tokens; heads: must divide it, into heads of even width
    """

    def __init__(self, width: int, heads: int, style: BlockStyle = BlockStyle()) -> None:
        super().__init__()
        if width % (2 * heads):
            raise CallError(f"a width of {width} does not give {heads} heads of an even width each")
        self.heads, self.scale, self.window = heads, (width // heads) ** -0.5, style.window
        self.causal = style.causal
        if not self.causal and self.window is not None:
            raise CallError("a window looks back from a token; where tokens see all there is none")
        self.kv_heads = style.kv_heads or heads
        if heads % self.kv_heads:
            raise CallError(
                f"{heads} heads of queries do not share {self.kv_heads} of keys and values evenly"
            )
        few = width // heads * self.kv_heads
        self.q, self.out = (nn.Linear(width, width, bias=style.bias) for _ in range(2))
        self.k, self.v = (nn.Linear(width, few, bias=style.bias) for _ in range(2))

    def _queries(self, x: Tensor, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """Heads `(n, heads, tokens, d)` of queries, and those of keys and values."""
        q, k, v = (
            f(x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for f, heads in ((self.q, self.heads), (self.k, self.kv_heads), (self.v, self.kv_heads))
        )
        return (q, k, v) if turn is None else (rotate(q, turn), rotate(k, turn), v)

    def _shared(self, x: Tensor) -> Tensor:
        """Keys or values `(n, kv_heads, tokens, d)` for every head of queries."""
        if self.kv_heads == self.heads:
            return x
        return x.unsqueeze(2).expand(-1, -1, self.heads // self.kv_heads, -1, -1).flatten(1, 2)

    def forward(self, x: Tensor, turn: Turn = None, seen: Tensor | None = None) -> Tensor:
        """A whole sequence `(n, tokens, width)`, each token beside those that it sees.

        seen: which those are `(tokens, tokens)` bool, a row for each token; None is what the style says
        """
        q, k, v = self._queries(x, turn)
        k, v = self._shared(k), self._shared(v)
        if seen is not None:
            scores = (q * self.scale) @ k.transpose(2, 3) + torch.where(seen, 0.0, _FAR).to(q.dtype)
            mixed = scores.softmax(-1).to(v.dtype) @ v
        elif not self.causal:
            mixed = attend(q, k, v, self.scale)
        elif x.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad and x.shape[1] <= 1024:
            # Spelled out: backwards, torch's fused CPU kernel takes 5 times as long there (165 against 30 ms
            # at (16, 4, 256, 64), torch 2.13, one thread with AMX).
            mask = torch.full((x.shape[1],) * 2, _FAR, dtype=q.dtype).triu(1)
            if self.window is not None:
                mask = mask + torch.full_like(mask, _FAR).tril(-self.window)
            mixed = torch.softmax((q * self.scale) @ k.transpose(2, 3) + mask, dim=-1).to(v.dtype) @ v
        elif self.window is not None:
            seen = torch.ones((x.shape[1],) * 2, dtype=torch.bool, device=x.device).tril()
            seen = seen.triu(1 - self.window)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=self.scale)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def read(
        self,
        x: Tensor,
        turn: Turn,
        start: Tensor,
        keys: Tensor,
        values: Tensor,
        count: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens `(n, tokens, width)` from position `start` `(1,)` on, beside those in the cache.

        keys, values: `(n, kv_heads, length, d)` of the positions before `start`; what stands later is not
                      seen
        count:        of tokens that all see each other, how many there are `(1,)`: those after them only
                      fill up; None is all
        Returns the result and the keys and values that are new `(n, kv_heads, tokens, d)`. Scores of cache
        and new tokens stand side by side in one softmax, so that the cache is read and never copied.
        """
        q, k, v = self._queries(x, turn)
        q, length, new = q * self.scale, keys.shape[2], x.shape[1]
        places = torch.arange(length, device=x.device)
        before = places < start  # (length,)
        fresh = torch.ones((new, new), dtype=torch.bool, device=x.device)
        if self.causal:
            fresh = fresh.tril()
        if count is not None:
            fresh = fresh & (torch.arange(new, device=x.device) < count)
        if self.window is not None:
            own = start + torch.arange(new, device=x.device).unsqueeze(1)
            before = before & (places > own - self.window)  # (tokens, length)
            fresh = fresh.triu(1 - self.window)
        scores = torch.cat(
            [
                q @ self._shared(keys).transpose(2, 3) + torch.where(before, 0.0, _FAR),
                q @ self._shared(k).transpose(2, 3) + torch.where(fresh, 0.0, _FAR),
            ],
            dim=-1,
        )
        p = scores.softmax(-1)
        mixed = p[..., :length] @ self._shared(values) + p[..., length:] @ self._shared(v)
        return self.out(mixed.transpose(1, 2).flatten(2)), k, v


class CausalBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): pre-norm (Xiong et al. 2020), the squared ReLU
    of So et al. 2021 ("Primer") unless the style says otherwise.

    hidden:  width between `up` and `down`, of each expert where there are any
    dropout: of what each half adds
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("attention.out", "down", "experts")

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float = 0.0, style: BlockStyle = BlockStyle()
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = (norm_of(style.norm, width, style.eps) for _ in range(2))
        self.attention = CausalAttention(width, heads, style)
        self.feed_forward = style.feed_forward
        self.experts: Experts | None = None
        if style.experts:
            self.experts = Experts(width, hidden, style.experts, style.chosen, style.feed_forward)
        else:
            self.up, self.down, self.gate = feed_forward_layers(width, hidden, style.feed_forward)
        self.drop = Dropout(dropout)

    def _feed(self, x: Tensor) -> Tensor:
        made: Tensor = (
            self.down(activated(x, self.up, self.gate, self.feed_forward))
            if self.experts is None
            else self.experts(x)
        )
        return made

    def _think(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.drop(self._feed(self.norm2(x)))
        return out

    def forward(self, x: Tensor, turn: Turn = None, seen: Tensor | None = None) -> Tensor:
        """As `CausalAttention`."""
        return self._think(x + self.drop(self.attention(self.norm1(x), turn, seen)))

    def read(
        self,
        x: Tensor,
        turn: Turn,
        start: Tensor,
        keys: Tensor,
        values: Tensor,
        count: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `CausalAttention.read`."""
        mixed, k, v = self.attention.read(self.norm1(x), turn, start, keys, values, count)
        return self._think(x + mixed), k, v
