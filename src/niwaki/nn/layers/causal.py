"""Causal self-attention with rotary positions: over a whole sequence, or over a cache when sampling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import CallError
from niwaki.nn.layers.dropout import Dropout

__all__ = ["CausalAttention", "CausalBlock", "Rotary"]

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


class CausalAttention(nn.Module):
    """out(softmax(q kᵀ/√d + mask) v): a token sees itself and those before it (Vaswani et al. 2017).

    Query, key, value and output are separate, and the width of a head is inferred from them. The scale 1/√d
    is that of the uncut head: cutting channels that are zero changes nothing.

    width: of the tokens; heads: must divide it, into heads of even width
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % (2 * heads):
            raise CallError(f"a width of {width} does not give {heads} heads of an even width each")
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def _split(self, x: Tensor) -> Tensor:
        """(n, tokens, heads·d) → (n, heads, tokens, d)"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _queries(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        q, k = (rotate(self._split(f(x)), turn) for f in (self.q, self.k))
        return q, k, self._split(self.v(x))

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """A whole sequence `(n, tokens, width)`, each token beside those before it."""
        q, k, v = self._queries(x, turn)
        if x.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad and x.shape[1] <= 1024:
            # Spelled out: backwards, torch's fused CPU kernel takes 5 times as long there (165 against 30 ms
            # at (16, 4, 256, 64), torch 2.13, one thread with AMX).
            mask = torch.full((x.shape[1],) * 2, _FAR, dtype=q.dtype).triu(1)
            mixed = torch.softmax((q * self.scale) @ k.transpose(2, 3) + mask, dim=-1).to(v.dtype) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def read(
        self, x: Tensor, turn: tuple[Tensor, Tensor], start: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens `(n, tokens, width)` from position `start` `(1,)` on, beside those in the cache.

        keys, values: `(n, heads, length, d)` of the positions before `start`; what stands later is not seen
        Returns the result and the keys and values that are new `(n, heads, tokens, d)`. Scores of cache and
        new tokens stand side by side in one softmax, so that the cache is read and never copied.
        """
        q, k, v = self._queries(x, turn)
        q, length, count = q * self.scale, keys.shape[2], x.shape[1]
        before = torch.arange(length, device=x.device) < start  # (length,)
        fresh = torch.ones((count, count), dtype=torch.bool, device=x.device).tril()
        scores = torch.cat(
            [
                q @ keys.transpose(2, 3) + torch.where(before, 0.0, _FAR),
                q @ k.transpose(2, 3) + torch.where(fresh, 0.0, _FAR),
            ],
            dim=-1,
        )
        p = scores.softmax(-1)
        mixed = p[..., :length] @ values + p[..., length:] @ v
        return self.out(mixed.transpose(1, 2).flatten(2)), k, v


class CausalBlock(nn.Module):
    """x + attention(norm(x)), then x + down(relu(up(norm(x)))²): pre-norm (Xiong et al. 2020), squared ReLU
    (So et al. 2021, "Primer").

    hidden:  width between `up` and `down`
    dropout: of what each half adds
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.drop = Dropout(dropout)

    def _think(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.drop(self.down(F.relu(self.up(self.norm2(x))).square()))
        return out

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        return self._think(x + self.drop(self.attention(self.norm1(x), turn)))

    def read(
        self, x: Tensor, turn: tuple[Tensor, Tensor], start: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `CausalAttention.read`."""
        mixed, k, v = self.attention.read(self.norm1(x), turn, start, keys, values)
        return self._think(x + mixed), k, v
