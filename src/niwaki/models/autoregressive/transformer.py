"""A causal transformer over tokens (Vaswani et al. 2017), decoder-only and pre-norm: that of Radford et al.
2019 (GPT-2) with rotary positions (Su et al. 2021), or that of Touvron et al. 2023 (Llama), by settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import Batch, Context, DataSpec, State
from niwaki.models.autoregressive.token_model import TokenModel, TokenModelConfig
from niwaki.models.registry import register, register_preset
from niwaki.nn.layers.causal import BlockStyle, CausalBlock, Norm, Rotary, norm_of
from niwaki.nn.layers.experts import listening
from niwaki.nn.layers.feed_forward import FeedForward

__all__ = ["ExpertsConfig", "Transformer", "TransformerConfig"]


class ExpertsConfig(BaseConfig):
    """A mixture of experts in the place of each block's feed-forward network.

    count:   experts in a block, each as large as the network would be
    chosen:  that a token passes
    balance: weight of the term that keeps them evenly used (`Experts.route`); 0 lets them be
    """

    count: int = Field(8, ge=2)
    chosen: int = Field(2, ge=1)
    balance: float = Field(0.01, ge=0)


class TransformerConfig(TokenModelConfig):
    """
    depth:     number of blocks
    heads:     of each attention; `width` is a multiple of twice as many
    expansion: width between the two layers of a block's network, in multiples of `width`
    hidden:    the same as a number; None leaves it to `expansion`
    stride:    tokens that a prompt is read by at once
    positions: `rotary`, or `learned`, added to the embeddings
    base:      the slowest pair of channels turns once in about 2π·base tokens
    norm, feed_forward, kv_heads, window, bias, eps: as in `BlockStyle`
    experts:   `{count: 8, chosen: 2}`: of many feed-forward networks in a block each token passes a few; null
               is one for all
    """

    depth: int = Field(6, ge=1)
    heads: int = Field(4, ge=1)
    expansion: int = Field(4, ge=1)
    hidden: int | None = Field(None, ge=1)
    stride: int = Field(32, ge=1)
    positions: Literal["rotary", "learned"] = "rotary"
    base: float = Field(10_000.0, gt=1)
    norm: Norm = "layer"
    feed_forward: FeedForward = "squared_relu"
    kv_heads: int | None = Field(None, ge=1)
    window: int | None = Field(None, ge=1)
    bias: bool = False
    eps: float = Field(1e-5, gt=0)
    experts: ExpertsConfig | None = Field(None, exclude_if=lambda value: value is None)


@register("transformer")
class Transformer(TokenModel):
    """A decoder-only transformer over tokens, with cached decoding, prefill, prompts and exact `log_prob`.

    Keys and values of what was read are state of two graphs: `decode` takes one token, `prefill` several at
    once.

    config: TransformerConfig
    spec:   tokens `(T,)`
    """

    Config = TransformerConfig
    config: TransformerConfig

    def __init__(self, config: TransformerConfig, spec: DataSpec) -> None:
        super().__init__()
        self.begin(config, spec)
        c = config
        style = BlockStyle(c.norm, c.feed_forward, c.kv_heads, c.window, c.bias, c.eps)
        if c.experts is not None:
            style = replace(style, experts=c.experts.count, chosen=c.experts.chosen)
        # The last stride that is read may reach beyond the end.
        places = self.length + self.strides
        self.rotary = Rotary(places, c.width // c.heads, c.base) if c.positions == "rotary" else None
        self.places = nn.Embedding(places, c.width) if c.positions == "learned" else None
        self.blocks = nn.ModuleList(
            CausalBlock(c.width, c.heads, c.hidden or c.expansion * c.width, c.dropout, style)
            for _ in range(c.depth)
        )
        self.norm = norm_of(c.norm, c.width, c.eps)
        self.finish(c.depth, ("out.weight", "down.weight"))

    @property
    def layers(self) -> tuple[str, ...]:
        return ("blocks", "norm") if self.places is None else ("places", "blocks", "norm")

    @property
    def strides(self) -> int:
        return min(self.config.stride, self.length)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Cross-entropy, and in training what keeps experts evenly used. How many are effectively used (e to
        the entropy of their shares) and how many got no token is recorded, of the worst block."""
        mixed = [block.experts for block in self._blocks() if block.experts is not None]
        if not mixed or not self.training or self.config.experts is None:
            return super().loss(phase, batch, ctx)
        with listening(mixed) as routed:
            terms = super().loss(phase, batch, ctx)
        share = torch.stack([block.share for block in routed])
        ctx.log(
            expert_perplexity=torch.exp(-torch.special.xlogy(share, share).sum(1)).min(),
            dead_experts=(share == 0).float().sum(1).max(),
        )
        uneven = torch.stack([block.balance for block in routed]).mean()
        return {**terms, "balance": self.config.experts.balance * uneven}

    def _placed(self, h: Tensor, at: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """The stream at the places `at` `(t,)`, and how queries and keys are turned there."""
        if self.places is not None:
            h = h + self.places(at)
        return h, None if self.rotary is None else self.rotary(at)

    def think(self, h: Tensor) -> Tensor:
        h, turn = self._placed(h, torch.arange(self.length, device=h.device))
        for block in self.blocks:
            h = block(h, turn)
        return h

    def advance(self, h: Tensor, position: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """state: keys and values of each block `(n, kv_heads, T, d)`; what comes back are the new rows."""
        h, turn = self._placed(h, position + torch.arange(h.shape[1], device=h.device))
        news: list[Tensor] = []
        for i, block in enumerate(self._blocks()):
            h, k, v = block.read(h, turn, position, state[2 * i], state[2 * i + 1])
            news += [k, v]
        return (h, *news)

    def _blocks(self) -> list[CausalBlock]:
        return [block for block in self.blocks if isinstance(block, CausalBlock)]

    def carried(self) -> tuple[State, ...]:
        state = []
        for i, block in enumerate(self._blocks()):
            heads = block.attention.kv_heads
            for letter, layer in (("key", block.attention.k), ("value", block.attention.v)):
                shape = (1, heads, self.length, layer.out_features // heads)
                state.append(State(f"{letter}_{i}", f"{letter}_{i}_new", shape))
        return tuple(state)


register_preset(
    "moe-transformer",
    "transformer",
    "a transformer whose blocks hold eight experts, of which each token passes two (Shazeer et al. 2017)",
    experts={"count": 8, "chosen": 2},
)

register_preset(
    "memory-transformer",
    "transformer",
    "beside the network, counts of what followed the last tokens in the training text (Li et al. 2022)",
    memory={},
)
