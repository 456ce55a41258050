"""Captions and labels as vectors."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["WordEncoder"]


class WordEncoder(nn.Module):
    """Tokens `(n, T)`, or one label `(n,)`, → a vector `(n, width)`: the sum of what each word says.

    Words do not look at each other, nor at their places: a combination that was never seen is as near to its
    parts as one that was. The sum lets each word say as much in a long caption as in a short one.

    vocabulary: number of tokens
    null:       the token that stands for nothing and says nothing, or None
    """

    def __init__(self, vocabulary: int, width: int, null: int | None = None) -> None:
        super().__init__()
        self.null, self.shape = null, (width,)
        self.words = nn.Embedding(vocabulary, width)
        self.hidden = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens.reshape(tokens.shape[0], -1)
        h = self.hidden(self.words(tokens))
        if self.null is not None:
            h = h * (tokens != self.null).to(h.dtype)[:, :, None]
        return self.out(h.sum(1))
