"""Attention of transformers that read pictures and text side by side, in plain products: what tracing and
exporting follow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["JointAttention", "RotaryAttention"]


class JointAttention:
    """A processor of diffusers' `Attention`: softmax(Q Kᵀ / √d) V, each token attending to all of both
    streams (Esser et al. 2024, Section 4)."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> Any:
        picture = (attn.to_q, attn.to_k, attn.to_v), (attn.norm_q, attn.norm_k)
        q, k, v = _heads(attn.heads, hidden_states, *picture)
        if encoder_hidden_states is not None:
            text = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj), (attn.norm_added_q, attn.norm_added_k)
            more = _heads(attn.heads, encoder_hidden_states, *text)
            q, k, v = (torch.cat(pair, dim=2) for pair in zip((q, k, v), more, strict=True))
        out = attended(q, k, v)
        if encoder_hidden_states is None:
            return attn.to_out[0](out)
        length = hidden_states.shape[1]
        own, other = out[:, :length], out[:, length:]
        return attn.to_out[0](own), other if attn.context_pre_only else attn.to_add_out(other)


class RotaryAttention:
    """A processor of diffusers' `FluxAttention`: the same over [text, picture], queries and keys turned by
    their positions (Su et al. 2021, "RoFormer", Equation 34)."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        picture = (attn.to_q, attn.to_k, attn.to_v), (attn.norm_q, attn.norm_k)
        q, k, v = _heads(attn.heads, hidden_states, *picture)
        if encoder_hidden_states is not None:
            text = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj), (attn.norm_added_q, attn.norm_added_k)
            more = _heads(attn.heads, encoder_hidden_states, *text)
            q, k, v = (torch.cat(pair, dim=2) for pair in zip(more, (q, k, v), strict=True))
        out = attended(turned(q, *image_rotary_emb), turned(k, *image_rotary_emb), v)
        if encoder_hidden_states is None:
            return out
        length = encoder_hidden_states.shape[1]
        return attn.to_out[0](out[:, length:]), attn.to_add_out(out[:, :length])


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs of neighbours (a, b) of heads `(n, heads, length, width)` → (a cos − b sin, b cos + a sin).

    cos, sin: `(length, width)`, each twice in a row
    """
    pairs = x.unflatten(-1, (-1, 2))
    crossed = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
    return x * cos + crossed * sin


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Heads `(n, heads, length, width)` → `(n, length, heads · width)`."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


def _heads(heads: int, x: Tensor, layers: Any, norms: Any) -> tuple[Tensor, ...]:
    """Queries, keys and values of a stream `(n, heads, length, width)`."""
    q, k, v = (layer(x).unflatten(2, (heads, -1)).transpose(1, 2) for layer in layers)
    q, k = (part if norm is None else norm(part) for part, norm in zip((q, k), norms, strict=True))
    return q, k, v
