"""The mean of normal values whose variance is not known, bounded at all times at once.

The mixed likelihood ratio of the t statistics is a martingale whatever the variance (Lai 1976; Wang & Ramdas,
"Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance", 2023). Bounds that
know the variance only in the limit (Waudby-Smith et al., "Time-uniform central limit theory", 2021) are
narrower by a tenth at twenty values and wrong at five, where early decisions save most.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

__all__ = ["bounds_of_normal_mean"]

_SPREAD = 0.2
"""c² of the mixture: effects μ/σ ~ N(0, 1/c²). The bounds at ten values are within 3 % of the narrowest."""


def bounds_of_normal_mean(
    values: np.ndarray, below: float, above: float, spread: float = _SPREAD
) -> tuple[float, float]:
    """(lower, upper) bound of the mean of normal values `(n,)`: they miss it at any n ever with probabilities
    of at most `below` and `above`.

    G_n(μ₀) = √(c²/(n + c²)) · [ (n + c²)V / ((n + c²)V − S²) ]^{n/2}, S = Σ(x − μ₀), V = Σ(x − μ₀)², is the
    likelihood ratio of effects N(0, 1/c²) to none, the scale integrated out (Wang & Ramdas 2023). It is the
    mean of M⁺ and M⁻, the ratios of the positive and the negative effects; where S > 0, M⁻ is at most its
    value at S = 0, √(c²/(n + c²)). So M⁺ ≥ 1/level, of probability at most `level` (Ville), where
    G_n ≥ (1/level + √(c²/(n + c²)))/2; solved for μ₀ in `_width`.

    The far side of lopsided values moves away by s·γ·(2z² + 1)/(6n) (Hall 1992; as in the verdict's
    interval), γ their skewness, z the width in standard errors: rare heavy damage is not normal.
    """
    n = len(values)
    if n == 0:
        return (-math.inf, math.inf)
    mean = float(values.mean())
    off = values - mean
    deviation = math.sqrt(float(off @ off) / n)
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        deviation = 0.0
    skewness = float(off**2 @ off) / n / deviation**3 if deviation else 0.0
    ends = []
    for side, level in ((-1.0, below), (1.0, above)):
        width = _width(n, level, spread)
        if math.isinf(width):
            ends.append(side * width)
            continue
        lopsided = max(0.0, side * skewness) * (2.0 * n * width * width + 1.0) / (6.0 * n)
        ends.append(mean + side * deviation * (width + lopsided))
    return (ends[0], ends[1])


@lru_cache(maxsize=4096)
def _width(n: int, level: float, spread: float) -> float:
    """Of a bound from the mean, in deviations s: (n + c²)(s² + d²) = K((n + c²)s² + c²d²) for d at s = 1,
    K^{n/2} = (1/level + √(c²/(n + c²)))/2 / √(c²/(n + c²))."""
    none = math.sqrt(spread / (n + spread))
    k = ((1.0 / level + none) / 2.0 / none) ** (2.0 / n)
    left = n + spread - k * spread
    return math.sqrt((k - 1.0) * (n + spread) / left) if left > 0 else math.inf
