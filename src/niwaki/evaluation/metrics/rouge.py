"""ROUGE (Lin 2004): how much of a reference a text has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.result import Result, mean_interval, signature

__all__ = ["rouge_l", "rouge_n"]

Text = Sequence[Hashable]
"""Words or tokens."""


def rouge_n(texts: Sequence[Text], references: Sequence[Text], *, n: int = 2) -> Result:
    """Mean F₁ of the n-grams that a text and its reference have in common, 0 … 1; one score for each text.

    Raises CallError where the numbers of texts and references differ.
    """
    _check(texts, references)
    each = []
    for text, truth in zip(texts, references, strict=True):
        own, other = (Counter(tuple(t[i : i + n]) for i in range(len(t) - n + 1)) for t in (text, truth))
        each.append(_f1(sum((own & other).values()), sum(own.values()), sum(other.values())))
    return _mean(each, signature("rouge", n=n))


def rouge_l(texts: Sequence[Text], references: Sequence[Text]) -> Result:
    """Mean F₁ of the longest common subsequence of a text and its reference, 0 … 1; one score for each text.

    Raises CallError as `rouge_n`.
    """
    _check(texts, references)
    each = [
        _f1(_common(text, truth), len(text), len(truth))
        for text, truth in zip(texts, references, strict=True)
    ]
    return _mean(each, signature("rouge", n="longest"))


def _check(texts: Sequence[Text], references: Sequence[Text]) -> None:
    if len(texts) != len(references) or not len(texts):
        raise CallError(
            f"ROUGE needs one reference for every text, not {len(texts)} and {len(references)} of them"
        )


def _common(a: Text, b: Text) -> int:
    """Length of the longest common subsequence, in len(a)·len(b) steps."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def _f1(shared: int, own: int, other: int) -> float:
    return 2.0 * shared / (own + other) if own + other else 0.0


def _mean(each: list[float], text: str) -> Result:
    scores = np.array(each)
    interval = mean_interval(scores) if len(scores) > 1 else None
    return Result(float(scores.mean()), interval, None, scores, (len(each), len(each)), None, text)
