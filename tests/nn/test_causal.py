"""Blocks of attention: what a token sees, by style, by a mask, and beside a cache."""

from __future__ import annotations

import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.nn.layers.causal import BlockStyle, CausalAttention, CausalBlock, Norm, Rotary
from niwaki.nn.layers.feed_forward import FeedForward

ALL = BlockStyle(causal=False)
near = {"atol": 1e-5, "rtol": 1e-4}


def block_of(style: BlockStyle) -> CausalBlock:
    torch.manual_seed(0)
    return CausalBlock(16, 2, 24, style=style).eval()


def test_a_mask_says_the_same_as_the_style() -> None:
    x, turn = torch.randn(2, 7, 16), Rotary(7, 8)(torch.arange(7))
    lower, full = torch.ones(7, 7, dtype=torch.bool).tril(), torch.ones(7, 7, dtype=torch.bool)
    causal, open_ = block_of(BlockStyle()), block_of(ALL)
    torch.testing.assert_close(causal(x, turn, lower), causal(x, turn), **near)
    torch.testing.assert_close(open_(x, turn, full), open_(x, turn), **near)
    torch.testing.assert_close(open_(x, turn, lower), causal(x, turn), **near)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("feed_forward", ["squared_relu", "gelu", "swiglu"])
def test_tokens_read_together_see_each_other_and_the_cache_and_no_filling(
    norm: Norm, feed_forward: FeedForward
) -> None:
    """Groups of 1, 4 and 2 tokens, each read in a call of four, equal the whole under the mask of groups."""
    block = block_of(BlockStyle(norm, feed_forward, kv_heads=1, causal=False))
    x, counts = torch.randn(2, 7, 16), (1, 4, 2)
    group = torch.arange(3).repeat_interleave(torch.tensor(counts))
    keys, values = torch.zeros(2, 1, 11, 8), torch.zeros(2, 1, 11, 8)
    parts, start = [], 0
    with torch.no_grad():
        whole = block(x, None, group[:, None] >= group)
        for count in counts:
            part = torch.full((2, 4, 16), 50.0)
            part[:, :count] = x[:, start : start + count]
            out, k, v = block.read(part, None, torch.tensor([start]), keys, values, torch.tensor([count]))
            keys[:, :, start : start + 4], values[:, :, start : start + 4] = k, v
            parts.append(out[:, :count])
            start += count
    torch.testing.assert_close(torch.cat(parts, 1), whole, **near)


def test_a_window_without_an_order_is_refused() -> None:
    with pytest.raises(CallError, match="window"):
        CausalAttention(16, 2, BlockStyle(window=3, causal=False))
