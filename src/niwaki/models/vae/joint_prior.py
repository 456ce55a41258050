"""One causal transformer over words and codes: a caption, a picture, and the caption once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from niwaki.models.vae.code_prior import CodePrior

__all__ = ["JointPrior"]

_NEVER = -1e9  # the logit of a number that stands for nothing there


class JointPrior(CodePrior):
    """p(codes | caption) and p(caption | codes), by the same weights: where the first caption is blank, the
    one behind the picture says what is seen.

    Words and codes have vectors and logits of their own and are told apart by their places, so that both are
    numbers from 0 on.

    words:   how many there are; blank: the one that stands for nothing
    told:    words of a caption
    codes:   how many there are
    shown:   codes of a picture
    """

    words_here: Tensor  # (length,), whether a word stands at the place

    def __init__(
        self, words: int, told: int, codes: int, shown: int, blank: int, *,
        width: int, heads: int, layers: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__(
            words + codes, told + shown + told, 0, width=width, heads=heads, layers=layers, dropout=dropout
        )
        self.first, self.blank = max(words, codes), blank
        self.sizes, self.told_words, self.shown_codes = (words, codes), told, shown
        places = torch.arange(self.length)
        here = (places < told) | (places >= told + shown)
        self.register_buffer("words_here", here, persistent=False)

    def _fed(self, numbers: Tensor, at: Tensor) -> Tensor:
        """Vectors of the numbers that are read at the places `at`: those of what stands before each."""
        words, codes = self.sizes
        word = numbers.clamp(max=words - 1) + codes
        row = torch.where(self.words_here[(at - 1).clamp(min=0)], word, numbers.clamp(max=codes - 1))
        found: Tensor = self.token(torch.where(at == 0, words + codes, row))
        return found

    def _said(self, logits: Tensor, at: Tensor) -> Tensor:
        """Logits `(n, t, first)`: of words where words stand, else of codes."""
        words, codes = self.sizes
        of_codes = F.pad(logits[..., :codes], (0, self.first - codes), value=_NEVER)
        of_words = F.pad(logits[..., codes:], (0, self.first - words), value=_NEVER)
        return torch.where(self.words_here[at][:, None], of_words, of_codes)

    def joined(self, caption: Tensor, codes: Tensor, untold: Tensor) -> Tensor:
        """Words `(n, told)` and codes `(n, shown)` as one sequence `(n, length)`, the first caption blank
        where `untold` `(n,)`."""
        before = torch.where(untold[:, None], self.blank, caption)
        return torch.cat([before, codes, caption], dim=1)

    def joint_loss(self, caption: Tensor, codes: Tensor, untold: Tensor) -> dict[str, Tensor]:
        """Cross-entropy, in nats, per code of pictures, and per word of the captions behind those that were
        not told. Each sample is as much as any other, so that micro-batches add up to the whole batch."""
        sequence = self.joined(caption, codes, untold)
        each = F.cross_entropy(self(sequence).float().transpose(1, 2), sequence, reduction="none")
        pictures, captions = self._parts(each)
        return {"picture": pictures.mean(), "caption": (captions.mean(1) * untold).mean()}

    def coding(self, asking: Mapping[str, Any]) -> None:
        """None: codes stand among words."""

    def _parts(self, each: Tensor) -> Sequence[Tensor]:
        """Of values at all places those of the picture, and of the caption behind it."""
        end = self.told_words + self.shown_codes
        return each[:, self.told_words : end], each[:, end:]
