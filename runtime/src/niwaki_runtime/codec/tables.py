"""Probabilities as integers that every machine computes alike: powers of two by table, and divisions.

A float's last bit differs between machines, libraries and numbers of threads, and one differing bit ruins all
that is decoded after it. All that follows the network's rounded output (`rounding`) is integer arithmetic.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["FRACTION", "LOG2_E", "PRECISION", "frequencies", "power_of_two"]

PRECISION = 24
"""Bits of a frequency: those of one distribution sum to 2²⁴."""
FRACTION = 12
"""Bits behind the point of a logarithm to base 2."""

_TOTAL = 1 << PRECISION
_UNIT = 1 << FRACTION
_TOP = 30
"""Bits of a table entry."""
LOG2_E = round(math.log2(math.e) * (1 << 20))
"""log₂ e with 20 bits behind the point: far enough from a half for every machine to round it alike."""


def _powers() -> np.ndarray:
    """⌊2^(30 − i/4096)⌋ for i in 0 … 4095, by square roots of integers alone."""
    bits = 200
    root = 1 << bits  # 2^(−1/4096) with 200 bits behind the point: 2^(−1) under twelve square roots
    root >>= 1
    for _ in range(FRACTION):
        root = math.isqrt(root << bits)
    value, table = 1 << bits, []
    for _ in range(_UNIT):
        table.append(value >> (bits - _TOP))
        value = value * root >> bits
    return np.array(table, np.int64)


_POWERS = _powers()


def power_of_two(exponent: np.ndarray) -> np.ndarray:
    """⌊2³⁰ · 2^(−exponent / 4096)⌋ of integers ≥ 0, within a unit; 0 where that is less than 1."""
    whole = np.minimum(exponent >> FRACTION, 62)
    return _POWERS[exponent & (_UNIT - 1)] >> whole


def frequencies(log_weights: np.ndarray) -> np.ndarray:
    """Integers `(…, K)` that sum to 2²⁴ along the last axis, none below 1, in the ratio of 2^(log_weights).

    log_weights: int64 `(…, K)`, logarithms to base 2 with 12 bits behind the point, up to a constant; K ≤ 2¹⁶
    """
    k = log_weights.shape[-1]
    weights = power_of_two(log_weights.max(-1, keepdims=True) - log_weights)
    share = weights * (_TOTAL - k) // weights.sum(-1, keepdims=True)
    found = share + 1
    # What rounding down left over goes to the likeliest.
    best = np.argmax(weights, -1)[..., None]
    rest = _TOTAL - found.sum(-1, keepdims=True)
    np.put_along_axis(found, best, np.take_along_axis(found, best, -1) + rest, -1)
    return found
