"""Captions and labels as vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["WordEncoder"]


class WordEncoder(nn.Module):
    """Tokens `(n, T)`, or one label `(n,)`, → a vector `(n, width)`: what each word says at its place, on the
    average.

    Places are told apart by an embedding of their own, and words do not look at each other: a combination
    that was never seen is as near to its parts as one that was.

    vocabulary: number of tokens
    length:     T; 1 for a label
    null:       the token that stands for nothing and is not counted, or None
    """

    def __init__(self, vocabulary: int, length: int, width: int, null: int | None = None) -> None:
        super().__init__()
        self.null = null
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.1 * torch.randn(length, width))
        self.hidden = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens.reshape(tokens.shape[0], -1)
        h = self.hidden(self.words(tokens) + self.places)
        if self.null is None:
            return self.out(h.mean(1))
        said = (tokens != self.null).to(h.dtype)[:, :, None]
        return self.out((h * said).sum(1) / said.sum(1).clamp(min=1.0))
