"""A causal transformer over tokens: decoder-only and pre-norm, with rotary positions.

Vaswani et al. 2017; the arrangement is that of Radford et al. 2019 (GPT-2), with the rotary positions of Su
et al. 2021 and the squared ReLU of So et al. 2021.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import DataSpec, State
from niwaki.models.autoregressive.token_model import TokenModel, TokenModelConfig
from niwaki.models.registry import register
from niwaki.nn.layers.causal import CausalBlock, Rotary

__all__ = ["Transformer", "TransformerConfig"]


class TransformerConfig(TokenModelConfig):
    """
    depth:     number of blocks
    heads:     of each attention; `width` is a multiple of twice as many
    expansion: width between the two layers of a block's network, in multiples of `width`
    stride:    tokens that a prompt is read by at once
    """

    depth: int = Field(6, ge=1)
    heads: int = Field(4, ge=1)
    expansion: int = Field(4, ge=1)
    stride: int = Field(32, ge=1)


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
        width = config.width
        # The last stride that is read may reach beyond the end.
        self.rotary = Rotary(self.length + self.strides, width // config.heads)
        self.blocks = nn.ModuleList(
            CausalBlock(width, config.heads, config.expansion * width, config.dropout)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.finish(config.depth, ("out.weight", "down.weight"))

    @property
    def layers(self) -> tuple[str, ...]:
        return ("blocks", "norm")

    @property
    def strides(self) -> int:
        return min(self.config.stride, self.length)

    def think(self, h: Tensor) -> Tensor:
        turn = self.rotary(torch.arange(self.length, device=h.device))
        for block in self.blocks:
            h = block(h, turn)
        return h

    def advance(self, h: Tensor, position: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """state: keys and values of each block `(n, heads, T, d)`; what comes back are the new rows."""
        turn = self.rotary(position + torch.arange(h.shape[1], device=h.device))
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
            heads = block.attention.heads
            for letter, layer in (("key", block.attention.k), ("value", block.attention.v)):
                shape = (1, heads, self.length, layer.out_features // heads)
                state.append(State(f"{letter}_{i}", f"{letter}_{i}_new", shape))
        return tuple(state)
