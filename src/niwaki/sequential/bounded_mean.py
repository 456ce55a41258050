"""The mean of values in 0 … 1, bounded at all times at once.

Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024, Theorem 2: the
empirical-Bernstein confidence sequence with predictable weights.
"""

from __future__ import annotations

import math

import numpy as np

from niwaki.core.errors import CallError

__all__ = ["bounds_of_mean"]

_MOST = 0.5
"""Largest weight c: ψ_E(λ) is finite below 1."""


def bounds_of_mean(values: np.ndarray, below: float, above: float) -> tuple[float, float]:
    """(lower, upper) bound of the mean of values `(n,)` in [0, 1]: over all n ever, the lower one is above it
    with a probability of at most `below`, the upper one below it of at most `above`.

    The values need not be independent: where each has its own mean, given those before it, the bounds are of
    their average with the weights λ, which fall like 1/√(t log t).
    Raises CallError for values outside 0 … 1.
    """
    x = np.asarray(values, np.float64)
    if x.size and not (x.min() >= 0.0 and x.max() <= 1.0):
        raise CallError("values of a bounded mean must lie in 0 … 1")
    if not x.size:
        return 0.0, 1.0
    centre, width = _interval(x, below)
    centre_above, width_above = (centre, width) if above == below else _interval(x, above)
    return max(0.0, centre - width), min(1.0, centre_above + width_above)


def _interval(x: np.ndarray, level: float) -> tuple[float, float]:
    """Σλx/Σλ and (log(1/level) + Σ v ψ_E(λ))/Σλ, where

    λ_t = min(√(2 log(1/level)/(σ̂²_{t−1} t log(1 + t))), c),  v_t = 4(x_t − μ̂_{t−1})²,
    ψ_E(λ) = (−log(1 − λ) − λ)/4,  μ̂_t = (1/2 + Σx)/(t + 1),  σ̂²_t = (1/4 + Σ(x_i − μ̂_i)²)/(t + 1).
    """
    t = np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (t + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (t + 1)
    mean_before = np.concatenate([[0.5], mean[:-1]])
    variance_before = np.concatenate([[0.25], variance[:-1]])
    log = math.log(1.0 / level)
    weight = np.minimum(np.sqrt(2.0 * log / (variance_before * t * np.log1p(t))), _MOST)
    cost = 4.0 * (x - mean_before) ** 2 * (-np.log1p(-weight) - weight) / 4.0
    total = float(weight.sum())
    return float(weight @ x) / total, (log + float(cost.sum())) / total
