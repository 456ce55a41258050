"""Intervals of shares, of their difference and of their ratio: all from Wilson's score interval.

Wilson, "Probable inference, the law of succession, and statistical inference", 1927; Newcombe, "Interval
estimation for the difference between independent proportions", Statistics in Medicine 17, 1998 (method 10),
and "Improved confidence intervals for the difference between binomial proportions based on paired data", same
volume (method 10); Donner & Zou, "Closed-form confidence intervals for functions of the normal mean and
standard deviation", Statistical Methods in Medical Research 21, 2012, for the ratio. All of them stay inside
the possible range and have a width where no sample was a hit, which value ± 1.96 standard errors has not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.arrays import Tensor
from niwaki.evaluation.statistics.result import Z95, wilson

__all__ = ["bonferroni", "difference", "holm", "integers", "paired_difference", "ratio"]

Interval = tuple[float, float]


def bonferroni(count: int) -> float:
    """The z that makes `count` intervals hold together with 95 %: the quantile at 1 − 0.025/count."""
    return float(norm.isf(0.025 / max(1, count)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that hold together, in the given order (Holm, "A simple sequentially rejective multiple test
    procedure", 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def difference(first: float, n: int, second: float, m: int, z: float = Z95) -> Interval:
    """Of first/n − second/m, independent: −1 … 1."""
    p1, p2 = float(first) / n, float(second) / m
    (l1, u1), (l2, u2) = wilson(first, n, z), wilson(second, m, z)
    delta = p1 - p2
    return (delta - math.hypot(p1 - l1, u2 - p2), delta + math.hypot(u1 - p1, p2 - l2))


def ratio(first: float, n: int, second: float, m: int, z: float = Z95) -> Interval:
    """Of (first/n) / (second/m), independent: 0 … ∞; the upper end is ∞ where second = 0."""
    p1, p2 = float(first) / n, float(second) / m
    (l1, u1), (l2, u2) = wilson(first, n, z), wilson(second, m, z)

    # R is inside where 0 is inside the interval of p1 − R·p2. Its lower end solves
    # (p1 − R·p2)² = (p1 − l1)² + R²(u2 − p2)², in the form that also holds for u2 > 2·p2; the upper end is
    # that of the inverse ratio.
    def least(p: float, low: float, q: float, high: float) -> float:
        c = low * (2 * p - low)
        return c / (p * q + math.sqrt((p * q) ** 2 - high * (2 * q - high) * c)) if c else 0.0

    inverse = least(p2, l2, p1, u1)
    return (least(p1, l1, p2, u2), 1 / inverse if inverse else math.inf)


def paired_difference(both: int, first: int, second: int, neither: int, z: float = Z95) -> Interval:
    """Of the share of the first answer − that of the second on the same n samples.

    both, first, second, neither: how many samples are hits of both, of the first alone, of the second alone,
    of neither; McNemar's table. Only the two that disagree move the difference.
    """
    n = both + first + second + neither
    if n < 1:
        return (-1.0, 1.0)
    p1, p2 = (both + first) / n, (both + second) / n
    (l1, u1), (l2, u2) = wilson(both + first, n, z), wilson(both + second, n, z)
    margins = float(both + first) * (second + neither) * (both + second) * (first + neither)
    product = float(both * neither - first * second)
    if product > 0:
        product = max(0.0, product - n / 2)  # the continuity correction of the correlation
    phi = product / math.sqrt(margins) if margins else 0.0

    def width(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    delta = p1 - p2
    return (max(-1.0, delta - width(p1 - l1, u2 - p2)), min(1.0, delta + width(u1 - p1, p2 - l2)))


def integers(values: Any, role: str, n: int | None = None) -> np.ndarray:
    """Classes and the like as int64 `(n,)`. Raises CallError for other shapes, negative or broken numbers."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1 or (n is not None and len(array) != n):
        wanted = "one per sample" if n is None else f"one for each of the {n} samples"
        raise CallError(f"the {role} must be integers, {wanted}, not an array of shape {array.shape}")
    if array.dtype.kind not in "iub":
        whole = array.dtype.kind == "f" and bool(np.isfinite(array).all()) and bool((array % 1 == 0).all())
        if not whole:
            raise CallError(f"the {role} must be integers, not {array.dtype}")
    array = array.astype(np.int64)
    if len(array) and int(array.min()) < 0:
        raise CallError(f"the {role} must be 0, 1, 2 …, not {int(array.min())}")
    return array
