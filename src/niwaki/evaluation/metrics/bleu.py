"""BLEU: how many n-grams of a text stand in its references; and self-BLEU, how alike samples are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.result import Result, mean_interval, signature

__all__ = ["bleu", "self_bleu"]

Text = Sequence[Hashable]
"""Words or tokens."""


def bleu(texts: Sequence[Text], references: Sequence[Sequence[Text]], *, order: int = 4) -> Result:
    """Corpus BLEU, 0 … 1 (Papineni et al. 2002): BP · exp(mean of log pₙ), n = 1 … order, as sacrebleu's
    without smoothing.

    pₙ is the share of all texts' n-grams that are found in their references, each no more often than it
    stands in one of them. BP = e^(1 − r/c) where the texts, of c words together, are shorter than the r
    words of their references (of each text the one that is nearest in length, the shorter of two).

    texts:      of words, one for each item
    references: of each item one or more
    Raises CallError where their numbers differ or an item has no reference.
    """
    if len(texts) != len(references) or not texts or not all(references):
        raise CallError(
            f"BLEU needs a text and one or more references for every item, not {len(texts)} texts and "
            f"{len(references)} sets of references"
        )
    hits, counts = np.zeros(order), np.zeros(order)
    made = wanted = 0
    for text, truths in zip(texts, references, strict=True):
        made += len(text)
        wanted += min((abs(len(t) - len(text)), len(t)) for t in truths)[1]
        for n in range(1, order + 1):
            own, most = _grams(text, n), Counter[Any]()
            for truth in truths:
                most |= _grams(truth, n)
            hits[n - 1] += sum((own & most).values())
            counts[n - 1] += sum(own.values())
    value = 0.0
    if (hits > 0).all():
        brevity = min(0.0, 1.0 - wanted / made)
        value = math.exp(brevity + float(np.log(hits / counts).mean()))
    return Result(value, None, None, None, (len(texts),) * 2, None, signature("bleu", order=order))


def self_bleu(generated: Any, *, order: int = 4, smoothing: float = 0.1) -> Result:
    """Mean BLEU of each sample against all others, 0 … 1: the higher, the more alike they are (Zhu et al.
    2018, "Texygen").

    generated: tokens (samples, length)
    smoothing: counts for an order of which nothing is found (Chen & Cherry 2014, method 1)
    The more samples, the higher: compare equal numbers of equal length. Raises CallError for fewer than two
    samples, or samples shorter than `order`.
    """
    rows = np.asarray(generated)
    if rows.ndim != 2 or len(rows) < 2 or rows.shape[1] < order or rows.dtype.kind not in "iu":
        raise CallError(
            f"self-BLEU compares whole tokens (samples, length) of at least two samples of {order} tokens, "
            f"not {rows.dtype} {rows.shape}"
        )
    texts = [tuple(row) for row in rows.tolist()]
    logs = np.zeros((len(texts), order))
    for n in range(1, order + 1):
        each = [_grams(text, n) for text in texts]
        most, second = Counter[Any](), Counter[Any]()  # how often the two texts that have it most often do
        for grams in each:
            for gram, k in grams.items():
                low, high = sorted((k, most[gram]))
                most[gram], second[gram] = high, max(low, second[gram])
        for i, grams in enumerate(each):
            # What the others have: the most of all, unless that is this text's own alone.
            others = (second[g] if k == most[g] else most[g] for g, k in grams.items())
            hits = sum(min(k, other) for k, other in zip(grams.values(), others, strict=True))
            logs[i, n - 1] = math.log(max(hits, smoothing) / (rows.shape[1] - n + 1))
    each_value = np.exp(logs.mean(1))
    text = signature("self_bleu", order=order, smoothing=smoothing)
    return Result(
        float(each_value.mean()), mean_interval(each_value), None, each_value, (0, len(rows)), None, text
    )


def _grams(text: Text, n: int) -> Counter[Any]:
    return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
