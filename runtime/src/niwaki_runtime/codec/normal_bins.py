"""Latents as integers: bins of equal probability under the standard normal prior.

A bin costs the same number of bits under the prior, and stands for the value at the middle of its probability
(Townsend, Bird & Barber 2019, "Practical lossless compression with latent variables using bits back coding",
arXiv:1901.04866, section 2.5).
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from niwaki_runtime.codec.tables import FRACTION, LOG2_E, frequencies, power_of_two

__all__ = ["GRID", "LOG_GRID", "centres", "nearest_bins", "posterior_frequencies", "values"]

GRID = 14
"""Bits behind the point of a latent's value."""
LOG_GRID = 8
"""Bits behind the point of log₂ σ."""
_WIDEST, _NARROWEST = 4, -14
"""Bounds of log₂ σ."""


@lru_cache
def centres(bits: int) -> np.ndarray:
    """Φ⁻¹((i + ½) / 2^bits) for every bin i, stretched to variance 1, int64 with 14 bits behind the point.

    Unstretched, few bins would be less wide than the prior, and the network would not know such latents.
    """
    k, normal = 1 << bits, NormalDist()
    exact = [normal.inv_cdf((i + 0.5) / k) for i in range(k // 2, k)]
    stretch = math.sqrt(len(exact) / math.fsum(c * c for c in exact))
    half = [round(c * stretch * (1 << GRID)) for c in exact]
    return np.array([-c for c in reversed(half)] + half, np.int64)  # exactly symmetric


def values(bins: np.ndarray, bits: int) -> np.ndarray:
    """What bins stand for, float64."""
    return centres(bits)[bins] / float(1 << GRID)


def nearest_bins(x: np.ndarray, bits: int) -> np.ndarray:
    """The bin of each value, int64: of whose share of the prior it is.

    x: int64 with 14 bits behind the point
    """
    edges = centres(bits)
    return np.searchsorted((edges[1:] + edges[:-1]) // 2, x, side="right")


def posterior_frequencies(mean: np.ndarray, log_deviation: np.ndarray, bits: int) -> np.ndarray:
    """Integers `(…, 2^bits)`, summing to 2²⁴: each bin's share of N(mean, σ²).

    mean:          int64, 14 bits behind the point
    log_deviation: log₂ σ, int64, 8 bits behind the point

    q(bin) ∝ q(c)/p(c) at its middle c, since all bins have the same share of p:
    log₂ q(c)/p(c) = log₂ e · (c²/2 − (c − μ)²/(2σ²)) + const.
    """
    c = centres(bits)
    s = np.clip(log_deviation, _NARROWEST << LOG_GRID, _WIDEST << LOG_GRID)
    # 1/σ² = 2^(−2 log₂ σ), with 20 bits behind the point: between 2^−8 and 2^28.
    shift = ((2 * s) << (FRACTION - LOG_GRID)) + (28 << FRACTION)
    precision = power_of_two(shift) << 18  # 2³⁰ · 2^(−2 log₂ σ − 28) · 2¹⁸ = 2²⁰ / σ²
    mean = np.clip(mean, -(64 << GRID), 64 << GRID)
    apart = c - mean[..., None]
    # What is too far for 64 bits is so improbable that only its order counts.
    square = np.minimum(apart * apart, (1 << 62) // np.maximum(precision[..., None], 1))
    distance = square * precision[..., None] >> (20 + GRID)  # (c − μ)²/σ², 14 bits behind the point
    energy = (c * c >> GRID) - distance
    # ½ log₂ e · energy, from 14 to 12 bits behind the point
    return frequencies(energy * LOG2_E >> (20 + 1 + GRID - FRACTION))
