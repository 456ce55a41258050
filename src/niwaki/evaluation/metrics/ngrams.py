"""How varied generated text is, read off the tokens alone: distinct n-grams and repetition."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.result import Result, mean_interval, normal_interval, signature

__all__ = ["distinct_n", "repetition"]


def distinct_n(generated: Any, *, n: int = 2) -> Result:
    """Different n-grams of all samples over all n-grams of them, 0 … 1 (Li et al., "A diversity-promoting
    objective function for neural conversation models", 2016).

    generated: tokens (samples, length)
    The more samples, the lower: compare equal numbers of equal length. The interval is that of the delete-one
    jackknife over samples. Raises CallError for fewer than two samples or samples shorter than n.
    """
    rows = _grams(generated, n)
    holders = Counter(gram for row in rows for gram in set(row))
    total, kinds, count = sum(map(len, rows)), len(holders), len(rows)
    alone = np.array([sum(holders[gram] == 1 for gram in set(row)) for row in rows])
    each = (kinds - alone) / (total - np.array([len(row) for row in rows]))
    error = float(np.sqrt((count - 1) * each.var()))
    value = kinds / total
    text = signature("distinct", n=n)
    return Result(value, normal_interval(value, error), None, None, (0, count), None, text)


def repetition(generated: Any, *, n: int = 4) -> Result:
    """Share of the n-grams of a sample that it had before, averaged over samples (seq-rep-n; Welleck et al.,
    "Neural text generation with unlikelihood training", 2020).

    generated: tokens (samples, length)
    `per_sample` says which repeat themselves. Raises CallError as `distinct_n`.
    """
    each = np.array([1.0 - len(set(row)) / len(row) for row in _grams(generated, n)])
    text = signature("repetition", n=n)
    return Result(float(each.mean()), mean_interval(each), None, each, (0, len(each)), None, text)


def _grams(generated: Any, n: int) -> list[list[tuple[int, ...]]]:
    tokens = np.asarray(generated)
    if tokens.ndim != 2 or len(tokens) < 2 or not 1 <= n <= tokens.shape[1] or tokens.dtype.kind not in "iu":
        raise CallError(
            f"n-grams are counted in whole tokens (samples, length) of at least two samples of {n} tokens, "
            f"not {tokens.dtype} {tokens.shape}"
        )
    return [list(zip(*(row[i:].tolist() for i in range(n)), strict=False)) for row in tokens]
