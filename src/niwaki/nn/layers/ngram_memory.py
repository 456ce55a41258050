"""A language model's memory of its training text: what followed the last few tokens there, as a bonus to
the logits of those tokens.

After Li et al. 2022 ("N-gram is back: residual learning of neural text generation with n-gram language
model", arXiv:2210.14431): the network only learns what counting does not know.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from niwaki.core.base_config import BaseConfig
from niwaki.nn.layers.ngram_counts import HOMES, NEAR, WAYS, Hashing, count

__all__ = ["MemoryConfig", "NgramMemory", "Own"]

_HIDDEN = 64  # of the network that reads the counts
_RARE = 1e-4  # smallest share that a logarithm is taken of


class MemoryConfig(BaseConfig):
    """
    orders:     lengths of the contexts that are looked up, in tokens
    slots:      contexts that there is room for, about
    successors: tokens that are remembered for a context, the most frequent ones
    """

    orders: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    slots: int = Field(2**20, ge=8, le=2**23)
    successors: int = Field(4, ge=1, le=64)

    @field_validator("orders")
    @classmethod
    def _ascending(cls, orders: tuple[int, ...]) -> tuple[int, ...]:
        if not orders or list(orders) != sorted(set(orders)) or orders[0] < 1:
            raise ValueError(f"orders must be positive and ascend, not {list(orders)}")
        return orders


class Own(NamedTuple):
    """What is read in training, and has been counted.

    tokens: that follow `(n, t)`
    window: the positions of their windows among those counted `(n,)`; None where nobody knows
    """

    tokens: Tensor
    window: Tensor | None


class NgramMemory(nn.Module):
    """z ← z + Σ over orders and remembered successors t of (a + b·log share + c·log(1 + count)) at t.

    The three weights of an order follow from the stream and from what all orders hold. In training the
    window that is read has been counted too, and what stands beside it is of the same passage: what was seen
    there alone is left out, and of other counts of what really follows one is taken, so that training sees
    what another text would.

    tokens: names of tokens; `tokens` itself stands where none is known
    width:  of the stream
    """

    marks: Tensor
    successors: Tensor
    counts: Tensor
    homes: Tensor
    words: Tensor
    starts: Tensor
    salts: Tensor
    moduli: Tensor
    reach: Tensor
    ways: Tensor

    def __init__(self, config: MemoryConfig, tokens: int, width: int) -> None:
        super().__init__()
        self.config, self.tokens = config, tokens
        hashing = Hashing.of(config.orders, config.slots // WAYS, tokens)
        self.hashing, self.longest = hashing, max(config.orders)
        slots, m, k = int(hashing.moduli[0]) * WAYS + 1, config.successors, len(config.orders)
        narrow = torch.int16 if tokens < 2**15 else torch.int32
        self.register_buffer("marks", torch.full((slots,), -1, dtype=torch.int16))
        self.register_buffer("successors", torch.full((slots, m), -1, dtype=narrow))
        self.register_buffer("counts", torch.zeros((slots, m + 2), dtype=torch.uint8))
        self.register_buffer("homes", torch.full((slots, m), -1, dtype=torch.int16))
        for name, value in (
            ("words", hashing.words.reshape(2, -1)),  # (2, longest · (tokens + 1))
            ("starts", np.arange(self.longest) * (tokens + 1)),
            ("salts", hashing.salts[:, None, None]),  # (2, 1, 1, orders)
            ("moduli", hashing.moduli[:, None, None, None]),
            ("reach", np.array(config.orders) - 1),
            ("ways", np.arange(WAYS)),
        ):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)), persistent=False)
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * k, bias=False)
        self.read, self.weigh = nn.Linear(4 * k, _HIDDEN), nn.Linear(_HIDDEN, 3 * k)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Fresh weights: at first the memory says nothing."""
        nn.init.zeros_(self.ask.weight)
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)
        nn.init.normal_(self.read.weight, std=self.read.in_features**-0.5)

    @torch.no_grad()
    def remember(self, windows: Tensor) -> float:
        """Forget everything, and count windows `(n, T)` int64. Returns the share of their contexts that has
        a place."""
        table = count(windows.cpu().numpy(), self.hashing, self.tokens, self.config.successors)
        self.marks.copy_(torch.from_numpy(table.marks))
        self.successors.copy_(torch.from_numpy(table.successors))
        self.counts.copy_(torch.from_numpy(table.counts))
        self.homes.copy_(torch.from_numpy(table.homes))
        return table.kept

    def slots(self, context: Tensor) -> Tensor:
        """Contexts `(n, t, longest)`, the nearest token first → their slots `(n, t, orders)`; the last slot
        where there is none, or where a context reaches before the first token."""
        index = (context + self.starts).flatten()
        terms = self.words.index_select(1, index).reshape(2, *context.shape)
        places = (terms.cumsum(-1).index_select(-1, self.reach) + self.salts) % self.moduli
        bucket, mark = places[0], places[1]
        unknown = (context == self.tokens).long().cumsum(-1).index_select(-1, self.reach)
        slot = (bucket * WAYS).unsqueeze(-1) + self.ways  # (n, t, orders, ways)
        held = _rows(self.marks, slot).long()
        found = (held == mark.unsqueeze(-1)) & (unknown == 0).unsqueeze(-1)
        best = torch.where(found, slot, -1).amax(-1)
        return torch.where(best < 0, self.marks.shape[0] - 1, best)

    def contexts(self, tokens: Tensor, before: Tensor | None = None) -> Tensor:
        """Tokens `(n, t)` that are read → the contexts that end with each `(n, t, longest)`, the nearest
        token first. before: the `longest − 1` tokens read before them; None is none"""
        back, t = self.longest - 1, tokens.shape[1]
        if before is None:
            row = F.pad(tokens, (back, 0), value=self.tokens)
        else:
            row = torch.cat([before, tokens], 1)
        return torch.stack([row[:, back - j : back - j + t] for j in range(back + 1)], -1)

    def before(self, read: Tensor, position: Tensor) -> Tensor:
        """What was read at each place `(n, T)` → the `longest − 1` tokens before `position` `(1,)`."""
        place = position - torch.arange(self.longest - 1, 0, -1, device=read.device)
        held = read.index_select(1, place.clamp(min=0)).long()
        return torch.where(place < 0, self.tokens, held)

    def forward(self, logits: Tensor, stream: Tensor, context: Tensor, own: Own | None = None) -> Tensor:
        """Logits `(n, t, tokens)` with the bonus of what followed the contexts `(n, t, longest)`.

        stream: what the network knows `(n, t, width)`
        own:    what really follows, where it has been counted too
        """
        slot, m = self.slots(context), self.config.successors
        names = _rows(self.successors, slot).long()  # (n, t, orders, m)
        amounts = _rows(self.counts, slot).float()  # (n, t, orders, m + 2)
        often, total, kinds = amounts[..., :m], amounts[..., m], amounts[..., m + 1]
        if own is not None:
            often, total, kinds = self._without(own, slot, names, often, total, kinds)
        share = often / total.unsqueeze(-1).clamp(min=1.0)
        size = torch.log1p(total)
        facts = torch.cat([size / 3, kinds.log1p() / 3, share[..., 0], often[..., 0].log1p() / 3], -1)
        heard = self.weigh(F.relu(self.read(facts)).square())
        weights = self.ask(self.norm(stream)).float() + heard.float()
        a, b, c = weights.unflatten(-1, (-1, 3)).split(1, dim=-1)  # each (n, t, orders, 1)
        bonus = a + b * torch.log(share.clamp(min=_RARE)) + c * torch.log1p(often)
        bonus = torch.where(often > 0, bonus, 0.0)
        return logits.float().scatter_add(-1, names.clamp(min=0).flatten(-2), bonus.flatten(-2))

    def _without(
        self, own: Own, slot: Tensor, names: Tensor, often: Tensor, total: Tensor, kinds: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The counts without those of the windows that are read."""
        if own.window is None:
            beside = torch.zeros_like(names, dtype=torch.bool)
        else:
            home = _rows(self.homes, slot).long()
            far = (home - own.window[:, None, None, None] % HOMES).abs()
            beside = (home >= 0) & (torch.minimum(far, HOMES - far) <= 2 * NEAR)
        left = torch.where(beside, 0.0, often)
        one = ((names == own.tokens[:, :, None, None]) & (left > 1)).float()
        left = left - one
        total = (total - (often - left).sum(-1)).clamp(min=0.0)
        return left, total, (kinds - ((often > 0) & beside).sum(-1)).clamp(min=0.0)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """`table[index]` along the first axis, for an index of any shape."""
    return table.index_select(0, index.flatten()).unflatten(0, index.shape)
