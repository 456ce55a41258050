"""Captions and labels as a vector for every token."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError, ConditionSpec
from niwaki.nn.layers.causal import BlockStyle, CausalBlock

__all__ = ["TextEncoder"]


class TextEncoder(nn.Module):
    """Tokens `(n, length)`, or one label `(n,)`, → vectors `(n, length, width)`, by a transformer.

    All tokens see each other.

    The blank tokens that fill up short captions are tokens like any other: a caption of nothing but them is
    what "nothing asked" is.

    vocabulary: number of tokens
    length:     of a caption; None for one label, which is a caption of one token
    depth:      blocks; with 0 each token says the same wherever it stands, and whatever stands beside it
    """

    @classmethod
    def of(cls, asked: ConditionSpec, blank: int | None, width: int, depth: int, heads: int) -> Self:
        """Of a condition, tokens or a label.

        blank: the token that stands for nothing, of a text; None for a label
        Raises CallError where heads do not fit.
        """
        if depth and width % (2 * heads):
            raise CallError(f"a text_width of {width} does not give {heads} heads of an even width each")
        beyond = int(asked.null == asked.size)
        return cls(asked.size + beyond, None if blank is None else asked.shape[0], width, depth, heads)

    def __init__(self, vocabulary: int, length: int | None, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.shape = (1 if length is None else length, width)
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(self.shape)) if depth and length is not None else None
        style = BlockStyle(feed_forward="gelu", causal=False)
        self.blocks = nn.ModuleList(CausalBlock(width, heads, 4 * width, style=style) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.words(tokens.reshape(tokens.shape[0], -1))
        if self.places is not None:
            h = h + self.places
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.norm(h)
        return out
