"""Attention over a cache of fixed length that is read, not copied: what language models are run with.

A cache that grows would have to be compiled anew at every token (an engine prepares a graph for fixed
shapes), and one that is returned whole costs a copy of all of it per token. So the cache has its full length
from the start and stays with the caller; a call reads it, and returns the rows that are new.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import CallError

__all__ = ["NAME", "Cache", "Held", "attention", "register"]

NAME = "niwaki"
"""What `transformers` knows this attention by."""

_FAR = -1e9  # instead of −∞: bfloat16 holds it, and a row without anything to see stays finite


@dataclass(frozen=True)
class Held:
    """Keys, or values, of one layer: those of earlier calls beside those of this one.

    old:   `(n, heads, length, dim)`; rows from `start` on mean nothing
    new:   `(n, heads, tokens, dim)` of the positions start, start + 1 …
    start: `(1,)`
    """

    old: Tensor
    new: Tensor
    start: Tensor


class Cache:
    """Stands where `transformers` expects its own cache: hands out what is held and collects what is new.

    state: keys and values of each layer in turn, or None to see their shapes
    """

    is_compileable = False

    def __init__(self, state: tuple[Tensor, ...] | None, start: Tensor) -> None:
        self.state, self.start = state, start
        self.made: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        self.made[layer] = (key, value)
        if self.state is None:
            return key, value
        old_key, old_value = self.state[2 * layer], self.state[2 * layer + 1]
        return Held(old_key, key, self.start), Held(old_value, value, self.start)

    def get_seq_length(self, layer: int = 0) -> int:
        return 0  # positions are always given

    def news(self) -> tuple[Tensor, ...]:
        """The new keys and values, layer by layer."""
        return tuple(x for layer in sorted(self.made) for x in self.made[layer])


def attention(
    module: nn.Module,
    query: Tensor,
    key: Any,
    value: Any,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """softmax(Q Kᵀ · scaling) V, causal: `(n, heads, tokens, dim)` → `(n, tokens, heads, dim)`.

    Query heads share keys and values in groups (Ainslie et al., "GQA", 2023), which are multiplied as they
    are rather than repeated. With `Held` keys the scores of the cache and of the new tokens stand beside each
    other in one softmax, so that cache and new rows never have to be joined.
    Raises CallError for capped scores (Gemma 2) and attention sinks (gpt-oss).
    """
    if softcap is not None or s_aux is not None:
        kind = "capped scores" if s_aux is None else "attention sinks"
        raise CallError(f"{type(module).__name__} has {kind}, which niwaki's attention does not know")
    scale = 1.0 / math.sqrt(query.shape[-1]) if scaling is None else scaling
    if not isinstance(key, Held):
        groups = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
        mask = None if sliding_window is None else _near(query.shape[2], sliding_window, query.device)
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scale
        )
        return out.transpose(1, 2), None
    count, length = key.new.shape[2], key.old.shape[2]
    q = (query * scale).unflatten(1, (key.new.shape[1], -1))  # (n, KV heads, group, tokens, dim)
    places = torch.arange(length, device=query.device)
    asking = key.start + torch.arange(count, device=query.device)
    seen = (places < key.start).expand(count, length)
    fresh = asking[:, None] >= asking[None, :]
    if sliding_window is not None:
        seen = seen & (asking[:, None] - places[None, :] < sliding_window)
        fresh = fresh & (asking[:, None] - asking[None, :] < sliding_window)
    scores = torch.cat(
        [
            q @ key.old.unsqueeze(2).transpose(-1, -2) + torch.where(seen, 0.0, _FAR),
            q @ key.new.unsqueeze(2).transpose(-1, -2) + torch.where(fresh, 0.0, _FAR),
        ],
        dim=-1,
    )
    p = scores.softmax(-1)
    out = p[..., :length] @ value.old.unsqueeze(2) + p[..., length:] @ value.new.unsqueeze(2)
    return out.flatten(1, 2).transpose(1, 2), None


def _near(count: int, window: int, device: torch.device) -> Tensor:
    """Which of the tokens before it, itself included, a token sees `(tokens, tokens)` bool."""
    at = torch.arange(count, device=device)
    distance = at[:, None] - at[None, :]
    return (distance >= 0) & (distance < window)


def register(transformers: Any) -> None:
    """Make it known as `NAME`. No mask is made for it: it knows what is causal."""
    transformers.AttentionInterface.register(NAME, attention)
