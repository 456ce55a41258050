"""torch's MultiheadAttention with its parts as layers of their own, so that heads and widths can be cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from niwaki.core.contract import NiwakiError

__all__ = ["OpenAttention", "UnfusedAttention", "is_fused_attention"]


class OpenAttention(nn.Module):
    """softmax(q kᵀ/√d + mask) v with four linear layers (Vaswani et al. 2017), called as torch's is.

    The width of a head is inferred, and the scale stays that of the uncut head, so that cutting dead channels
    out of every head changes nothing.

    source: a `MultiheadAttention`, whose weights are taken over
    """

    in_proj_bias = None  # torch's encoder layers look at it, and then take no shortcut past this module

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        bias = source.in_proj_bias is not None
        self.heads, self.batch_first = source.num_heads, source.batch_first
        self.scale, self.dropout = source.head_dim**-0.5, source.dropout
        widths = (source.embed_dim, source.kdim, source.vdim)
        self.q, self.k, self.v = (nn.Linear(int(w or 0), source.embed_dim, bias=bias) for w in widths)
        self.out = nn.Linear(source.embed_dim, source.embed_dim, bias=source.out_proj.bias is not None)
        packed = source.in_proj_weight
        weights = (
            (source.q_proj_weight, source.k_proj_weight, source.v_proj_weight)
            if packed is None
            else packed.chunk(3)
        )
        with torch.no_grad():
            for i, (layer, weight) in enumerate(zip((self.q, self.k, self.v), weights, strict=True)):
                layer.weight.copy_(weight)  # type: ignore[arg-type]
                if source.in_proj_bias is not None:
                    layer.bias.copy_(source.in_proj_bias.chunk(3)[i])
            self.out.load_state_dict(source.out_proj.state_dict())
        self.to(source.out_proj.weight)

    def _split(self, x: Tensor) -> Tensor:
        """(n, l, heads·d) → (n, heads, l, d)"""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        q, k, v = self._split(self.q(query)), self._split(self.k(key)), self._split(self.v(value))
        scores = (q * self.scale) @ k.transpose(2, 3)
        if attn_mask is not None:
            mask = attn_mask.unflatten(0, (-1, self.heads)) if attn_mask.ndim == 3 else attn_mask
            scores = scores.masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        if key_padding_mask is not None:
            padding = key_padding_mask[:, None, None]
            scores = (
                scores.masked_fill(padding, -torch.inf) if padding.dtype == torch.bool else scores + padding
            )
        weights = nn.functional.dropout(scores.softmax(-1), self.dropout, self.training)
        out = self.out((weights @ v).transpose(1, 2).flatten(2))
        if not self.batch_first:
            out = out.transpose(0, 1)
        if not need_weights:
            return out, None
        return out, weights.mean(1) if average_attn_weights else weights


def is_fused_attention(module: nn.Module) -> bool:
    """Whether it is torch's own attention without extra rows of keys and values."""
    return type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn


@dataclass(frozen=True)
class UnfusedAttention:
    """Put an `OpenAttention` with the same weights in the place of torch's."""

    module: str

    kind: ClassVar[str] = "open_attention"

    def apply(self, model: nn.Module) -> None:
        """Raises NiwakiError where there is no such attention."""
        path, _, leaf = self.module.rpartition(".")
        try:
            holder = model.get_submodule(path)
            found = holder._modules.get(leaf)
        except AttributeError:
            found = None
        if not isinstance(found, nn.Module) or not is_fused_attention(found):
            raise NiwakiError(f"the model has no MultiheadAttention '{self.module}' that could be opened")
        setattr(holder, leaf, OpenAttention(found).train(found.training))  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "module": self.module}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> UnfusedAttention:
        return cls(record["module"])
