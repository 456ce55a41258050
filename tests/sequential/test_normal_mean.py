"""The bounds against the integrals that they solve."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gamma, hyp1f1
from scipy.stats import norm

from niwaki.sequential.normal_mean import bounds_of_normal_mean


def _ratio(effect, s, v, n):
    """Likelihood of the effect over that of none, σ integrated out with dσ/σ: with u = 1/σ,
    e^{−nδ²/2} ∫uⁿ⁻¹e^{−u²V/2 + uδS}du / ∫uⁿ⁻¹e^{−u²V/2}du, in Kummer's functions."""
    z = effect * s / math.sqrt(v)
    x = z * z / 2  # 1F1(a; b; x) = eˣ 1F1(b − a; b; −x)
    even = hyp1f1((1 - n) / 2, 0.5, -x)
    odd = math.sqrt(2) * z * gamma((n + 1) / 2) / gamma(n / 2) * hyp1f1((2 - n) / 2, 1.5, -x)
    return math.exp(x - n * effect**2 / 2) * (even + odd)


def _one_sided(x, at, spread):
    """M⁺: effects above 0 alone, half-normal."""
    s, v, n = float((x - at).sum()), float(((x - at) ** 2).sum()), len(x)
    scale = 1 / math.sqrt(spread)
    density = lambda d: 2 * norm.pdf(d, scale=scale) * _ratio(d, s, v, n)  # noqa: E731
    return quad(density, 0, 12 * scale, limit=200)[0]


@pytest.mark.parametrize("n", [5, 12])
def test_at_the_lower_bound_the_mixture_of_effects_above_has_reached_its_level(n):
    x = norm.ppf((np.arange(n) + 0.5) / n) + 3.0  # symmetric: no skewness
    low, high = bounds_of_normal_mean(x, 0.05, 0.05, 0.2)
    assert low + high == pytest.approx(2 * x.mean())
    # M⁻ was taken as its most, so M⁺ is at least 1/level there, and hardly more
    assert 20.0 <= _one_sided(x, low, 0.2) <= 20.0 * 1.06
    assert _one_sided(x, low + 0.05, 0.2) < 20.0


def test_bounds_move_with_the_values_and_the_far_side_of_skewed_ones_is_farther():
    x = np.random.default_rng(0).normal(size=9)
    low, high = bounds_of_normal_mean(x, 0.05, 0.05)
    a, b = bounds_of_normal_mean(3.0 * x + 2.0, 0.05, 0.05)
    assert (a, b) == pytest.approx((3 * low + 2, 3 * high + 2))
    assert bounds_of_normal_mean(-x, 0.05, 0.05) == pytest.approx((-high, -low))
    assert bounds_of_normal_mean(x, 0.05, 0.01) == pytest.approx(
        (low, bounds_of_normal_mean(x, 0.01, 0.01)[1])
    )
    heavy = np.array([0.0] * 8 + [5.0])
    low, high = bounds_of_normal_mean(heavy, 0.05, 0.05)
    assert high - heavy.mean() > 1.2 * (heavy.mean() - low)
    assert bounds_of_normal_mean(x[:2], 0.05, 0.05) == (-math.inf, math.inf)
    assert bounds_of_normal_mean(np.ones(6), 0.05, 0.05) == (1.0, 1.0)
