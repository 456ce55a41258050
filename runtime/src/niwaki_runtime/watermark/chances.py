"""Tails of laws: how probable a statistic is where nothing is marked."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["at_least_one", "combined", "gamma_tail", "normal_tail"]

LEAST = 1e-300
"""Smaller probabilities are said to be this."""


def normal_tail(z: float) -> float:
    """P(Z ≥ z) of a standard normal."""
    return max(LEAST, 0.5 * math.erfc(z / math.sqrt(2.0)))


def gamma_tail(n: int, s: float) -> float:
    """P(S ≥ s) of a sum of n exponentials: e⁻ˢ Σ_{k<n} sᵏ/k!, summed from its largest term; 1 for n = 0."""
    if n == 0 or s <= 0.0:
        return 1.0
    logs = [k * math.log(s) - s - math.lgamma(k + 1) for k in range(n)]
    top = max(logs)
    return min(1.0, max(LEAST, math.exp(top + math.log(sum(math.exp(v - top) for v in logs)))))


def at_least_one(p: float, tries: int) -> float:
    """Bonferroni's bound: the chance that the best of so many tries is as good."""
    return min(1.0, p * tries)


def combined(ps: Sequence[float]) -> float:
    """Of independent tests, whether all are chance (Fisher 1925): −Σ ln p is a sum of exponentials, or less
    where the p are bounds."""
    return gamma_tail(len(ps), -sum(math.log(max(p, LEAST)) for p in ps))
