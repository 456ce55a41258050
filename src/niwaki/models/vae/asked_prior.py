"""What priors of codes are asked by: a class and captions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from niwaki.nn.layers.lookup import Lookup

__all__ = ["AskedPrior"]


class AskedPrior(nn.Module):
    """A prior whose places are all told the class, and the mean over the tokens of captions; its blocks look
    up the tokens themselves.

    It is given the number of the class where there is one `(n,)`, then every caption as it was encoded
    `(n, T, k)`.
    """

    embed: nn.Embedding | None
    pooled: nn.Linear | None
    lookups: nn.ModuleList

    def prepare_label(self, classes: int, width: int) -> None:
        """classes: numbers that a class can have, 0 without classes"""
        self.classes = classes
        self.embed = nn.Embedding(classes, width) if classes else None

    def prepare_texts(self, texts: Sequence[tuple[int, ...]], width: int, heads: int, layers: int) -> None:
        """texts: shapes of the captions per sample `(T, k)`, all of the same k"""
        self.texts = len(texts)
        self.pooled = nn.Linear(texts[0][-1], width) if texts else None
        self.lookups = nn.ModuleList(
            Lookup(width, heads, texts[0][-1]) for _ in range(layers if texts else 0)
        )

    @property
    def questions(self) -> int:
        """How many of its inputs are what it is asked by."""
        return self.texts + int(self.embed is not None)

    def told(self, asked: Sequence[Tensor]) -> tuple[Tensor | float, Tensor | None]:
        """What is added at every place `(n, 1, width)`, and what is looked up `(n, T, k)`."""
        added: Tensor | float = 0.0
        if self.embed is not None:
            added = self.embed(asked[0])[:, None]
        if self.pooled is None:
            return added, None
        words = torch.cat(list(asked[len(asked) - self.texts :]), dim=1)
        return added + self.pooled(words.mean(1))[:, None], words

    def look_up(self, x: Tensor, block: int, words: Tensor | None) -> Tensor:
        """The stream `(n, t, width)` before a block."""
        if words is None:
            return x
        found: Tensor = self.lookups[block](x, words)
        return found
