"""The bounds against the integrals that they solve, and the rates that are promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gamma, hyp1f1
from scipy.stats import norm

from niwaki.compression.search.rejection import EarlyTest, bounds_at_all_times, pseudo_values
from niwaki.core.errors import CallError


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
    low, high = bounds_at_all_times(x, 0.05, 0.05, 0.2)
    assert low + high == pytest.approx(2 * x.mean())
    # M⁻ was taken as its most, so M⁺ is at least 1/level there, and hardly more
    assert 20.0 <= _one_sided(x, low, 0.2) <= 20.0 * 1.06
    assert _one_sided(x, low + 0.05, 0.2) < 20.0


def test_bounds_move_with_the_values_and_the_far_side_of_skewed_ones_is_farther():
    x = np.random.default_rng(0).normal(size=9)
    low, high = bounds_at_all_times(x, 0.05, 0.05)
    a, b = bounds_at_all_times(3.0 * x + 2.0, 0.05, 0.05)
    assert (a, b) == pytest.approx((3 * low + 2, 3 * high + 2))
    assert bounds_at_all_times(-x, 0.05, 0.05) == pytest.approx((-high, -low))
    assert bounds_at_all_times(x, 0.05, 0.01) == pytest.approx((low, bounds_at_all_times(x, 0.01, 0.01)[1]))
    heavy = np.array([0.0] * 8 + [5.0])
    low, high = bounds_at_all_times(heavy, 0.05, 0.05)
    assert high - heavy.mean() > 1.2 * (heavy.mean() - low)
    assert bounds_at_all_times(x[:2], 0.05, 0.05) == (-math.inf, math.inf)
    assert bounds_at_all_times(np.ones(6), 0.05, 0.05) == (1.0, 1.0)


def _decisions(mean, runs, blocks=15, seed=0, skewed=False):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        test = EarlyTest()
        noise = rng.gamma(25.0, size=(blocks, 2)) / 5.0 - 5.0 if skewed else rng.normal(size=(blocks, 2))
        for f, d in noise * 0.5 + np.asarray(mean):
            if test.add(float(f), float(d)) != "go on":
                break
        found.append(test.decision)
    return {d: found.count(d) / runs for d in ("reject", "accept", "go on")}


@pytest.mark.parametrize("skewed", [False, True])
def test_what_lies_on_the_margin_is_hardly_ever_rejected_or_accepted(skewed):
    both = _decisions((1.0, 1.0), 200, skewed=skewed)
    assert both["reject"] <= 0.05
    one = _decisions((1.0, -3.0), 200, skewed=skewed)  # the other axis says yes at once
    assert one["reject"] <= 0.05
    assert one["accept"] <= 0.05


def test_what_is_clear_is_seen_early():
    assert _decisions((3.0, 0.0), 40, blocks=15)["reject"] > 0.95
    assert _decisions((0.0, 3.0), 40, blocks=15)["reject"] > 0.95
    assert _decisions((0.0, 0.0), 40, blocks=20)["accept"] > 0.95


def test_a_decision_stands():
    test = EarlyTest(fewest=4)
    rng = np.random.default_rng(1)
    values = 5.0 + 0.1 * rng.normal(size=8)
    said = [test.add(float(v), 0.1 * float(v)) for v in values]
    assert said == ["go on"] * said.index("reject") + ["reject"] * (8 - said.index("reject"))
    assert test.add(-100.0, 0.0) == "reject"
    assert test.blocks == 9


def test_pseudo_values_of_a_mean_are_the_values_and_of_a_variance_are_without_bias():
    x = np.random.default_rng(2).normal(size=(7, 10))
    assert pseudo_values(lambda b: float(np.mean(b)), list(x)) == pytest.approx(x.mean(1))
    # θ = population variance, of bias −σ²/n: the jackknife of single values is the unbiased estimate
    one = x[:, 0]
    assert pseudo_values(lambda b: float(np.var(b)), list(one)).mean() == pytest.approx(one.var(ddof=1))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: EarlyTest(alpha=0.0), "between 0 and 1"),
        (lambda: EarlyTest(fewest=1), "at least two"),
        (lambda: EarlyTest().add(math.nan, 0.0), "not finite"),
        (lambda: EarlyTest().look([1.0], [1.0, 2.0]), "both axes"),
        (lambda: pseudo_values(lambda b: 0.0, [1]), "at least two"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(call, words):
    with pytest.raises(CallError, match=words):
        call()
