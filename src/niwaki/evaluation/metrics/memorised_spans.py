"""How long the passages are that samples share with the training text, token for token."""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.result import Result, mean_interval, signature

__all__ = ["memorised_spans"]

_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)  # of a rolling hash modulo 2⁶⁴


def memorised_spans(generated: Any, train: Any) -> Result:
    """Mean length, in tokens, of the longest passage of each sample that stands in the training text
    (Carlini et al. 2023 count those of 50 and more); `per_sample` has the lengths.

    generated: tokens (samples, length); train: tokens (windows, length), in the order of the text
    Passages may cross the windows' ends. Found by hashes of all passages of one length, halving the range of
    lengths; a hit is then compared token for token. Raises CallError for what are no tokens.
    """
    rows, text = np.asarray(generated), np.asarray(train).reshape(-1)
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "iu" or text.dtype.kind not in "iu":
        raise CallError(
            f"spans are sought in whole tokens (samples, length), not {rows.dtype} {rows.shape} and "
            f"{text.dtype}"
        )
    longest = np.zeros(len(rows), np.int64)
    low = np.zeros(len(rows), np.int64)  # a length that surely occurs
    high = np.full(len(rows), min(rows.shape[1], len(text)), np.int64)  # one that may
    while (low < high).any():
        for length in np.unique((low + high + 1)[low < high] // 2):
            asked = np.flatnonzero((low < high) & ((low + high + 1) // 2 == length))
            hit = _occurs(rows[asked], text, int(length))
            low[asked] = np.where(hit, length, low[asked])
            high[asked] = np.where(hit, high[asked], length - 1)
    longest = low.astype(np.float64)
    interval = mean_interval(longest) if len(longest) > 1 else None
    return Result(
        float(longest.mean()), interval, None, longest, (0, len(rows)), None, signature("memorised_spans")
    )


def _occurs(rows: np.ndarray, text: np.ndarray, length: int) -> np.ndarray:
    """Whether any passage of so many tokens of each row stands in the text `(rows,)`."""
    known = _hashes(text[None], length)[0]
    order = np.argsort(known, kind="stable")
    known = known[order]
    own = _hashes(rows, length)
    place = np.searchsorted(known, own)
    found = (place < len(known)) & (known[np.minimum(place, len(known) - 1)] == own)
    hit = np.zeros(len(rows), bool)
    for i, j in zip(*np.nonzero(found), strict=True):
        if not hit[i]:
            at = order[place[i, j]]
            hit[i] = np.array_equal(rows[i, j : j + length], text[at : at + length])
    return hit


def _hashes(rows: np.ndarray, length: int) -> np.ndarray:
    """Σ token · base^(length − 1 − i) of all passages `(n, T − length + 1)`, from differences of prefixes."""
    n, width = rows.shape
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.concatenate([[np.uint64(1)], np.full(length, _BASE)]), dtype=np.uint64)
        prefix = np.zeros((n, width + 1), np.uint64)
        values = rows.astype(np.uint64) + np.uint64(1)
        for t in range(width) if n > width else ():
            prefix[:, t + 1] = prefix[:, t] * _BASE + values[:, t]
        if n <= width:
            for i in range(n):
                prefix[i, 1:] = _prefixes(values[i])
        return prefix[:, length:] - prefix[:, : width + 1 - length] * powers[length]


def _prefixes(values: np.ndarray) -> np.ndarray:
    """h_t = h_{t−1} · base + v_t for one long row: with base⁻¹ modulo 2⁶⁴ a cumulative sum."""
    inverse = np.uint64(pow(int(_BASE), -1, 1 << 64))
    back = np.cumprod(np.full(len(values), inverse), dtype=np.uint64)
    forth = np.cumprod(np.full(len(values), _BASE), dtype=np.uint64)
    return np.cumsum(values * back, dtype=np.uint64) * forth
