"""Expected values of neighbour metrics when real and generated are alike: what a perfect generator reads.

All follow from one fact: if the real and the generated samples come from one distribution, then around any
real sample the other N−1 real and the M generated ones are ranked by distance in every order with equal
probability.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import gammaln

from niwaki.core.contract import CallError

__all__ = ["clipped_coverage_share", "expected_clipped_coverage", "expected_coverage"]


def expected_coverage(real: int, generated: int, k: int) -> float:
    """E[coverage] = 1 − Π_{j=1…k} (N−j)/(N+M−j): Naeem et al., ICML 2020, eq. 9."""
    _check(real, k)
    return 1.0 - math.prod((real - j) / (real + generated - j) for j in range(1, k + 1))


@lru_cache(maxsize=8)
def expected_clipped_coverage(real: int, generated: int, k: int) -> np.ndarray:
    """f(m) for m = 0 … generated: E[min(J, k)/k], J of m good samples being in a real ball; read-only.

    f(m) = (1/k) Σ_{i=1…k} P(J ≥ i), P(J=j) = C(k−1+j, j)·C(N−1−k+m−j, m−j)/C(N−1+m, m): O(M·k).
    Salvy, Talbot & Thirion, "Enhanced generative model evaluation with Clipped Density and Coverage", 2025
    (https://arxiv.org/abs/2507.01761).
    """
    _check(real, k)
    m = np.arange(generated + 1, dtype=np.float64)
    j = np.arange(min(k, generated + 1), dtype=np.float64)[
        :, None
    ]  # only J < k is needed: P(J ≥ i) = 1 − Σ_{j<i} P(J=j)
    fits = m >= j
    rest = np.where(fits, m - j, 0.0)
    log_p = (
        _log_binomial(k - 1 + j, j)
        + _log_binomial(real - 1 - k + rest, rest)
        - _log_binomial(real - 1 + m, m)
    )
    p = np.where(fits, np.exp(log_p), 0.0)
    below = np.cumsum(p, axis=0)  # P(J ≤ j)
    f = (1.0 - below).sum(axis=0) / k
    f = np.maximum.accumulate(np.clip(f, 0.0, 1.0))
    f.setflags(write=False)
    return f


def clipped_coverage_share(raw: float, real: int, generated: int, k: int) -> float:
    """The share of good samples that would give the raw clipped coverage `raw`: f⁻¹(raw)/M, 0 … 1."""
    f = expected_clipped_coverage(real, generated, k)
    if raw >= f[-1]:
        return 1.0
    return float(np.interp(raw, f, np.arange(len(f)))) / generated


def _log_binomial(n: np.ndarray | float, r: np.ndarray | float) -> np.ndarray:
    return gammaln(np.asarray(n) + 1.0) - gammaln(np.asarray(r) + 1.0) - gammaln(np.asarray(n) - r + 1.0)


def _check(real: int, k: int) -> None:
    if not 1 <= k < real:
        raise CallError(f"k must be 1 … {real - 1} for {real} real samples, not {k}")
