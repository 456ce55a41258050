"""Bounds that hold at all times: error rates, closed form, a late change."""

from __future__ import annotations

import math

import numpy as np
import pytest

from niwaki.sequential.bounded_mean import bounds_of_mean
from niwaki.sequential.change import beginnings, find_rise
from niwaki_runtime.errors import CallError


def test_the_bounds_are_those_of_theorem_2_step_by_step():
    x = np.random.default_rng(0).random(30)
    sums, weights, costs, seen = 0.0, 0.0, 0.0, 0.0
    mean, variance, squares = 0.5, 0.25, 0.0
    log = math.log(1 / 0.05)
    for t, value in enumerate(x, 1):
        weight = min(math.sqrt(2 * log / (variance * t * math.log(1 + t))), 0.5)
        sums, weights = sums + weight * value, weights + weight
        costs += (value - mean) ** 2 * (-math.log(1 - weight) - weight)
        seen += value
        mean = (0.5 + seen) / (t + 1)
        squares += (value - mean) ** 2
        variance = (0.25 + squares) / (t + 1)
    low, high = bounds_of_mean(x, 0.05, 0.05)
    assert low == pytest.approx(sums / weights - (log + costs) / weights)
    assert high == pytest.approx(sums / weights + (log + costs) / weights)


@pytest.mark.parametrize("draw", [
    (lambda rng: rng.random(600)),
    (lambda rng: (rng.random(600) < 0.1).astype(float) * 0.5 + 0.45),
    (lambda rng: rng.beta(0.3, 0.3, 600)),
])  # fmt: skip
def test_looking_at_every_step_misses_the_mean_no_oftener_than_promised(draw):
    """An interval of 95 % that is looked at sixty times misses it in a third of all runs."""
    mean, missed, looks = 0.5, 0, range(10, 601, 10)
    for seed in range(200):
        x = draw(np.random.default_rng(seed))
        found = [bounds_of_mean(x[:n], 0.05, 0.05) for n in looks]
        missed += any(not low <= mean <= high for low, high in found)
    assert missed / 200 <= 0.1 + 2 * math.sqrt(0.09 / 200)


def test_nothing_is_known_of_no_values_and_wrong_ones_are_refused():
    assert bounds_of_mean(np.zeros(0), 0.05, 0.05) == (0.0, 1.0)
    for bad in ([1.5], [-0.1], [math.nan]):
        with pytest.raises(CallError, match="0 … 1"):
            bounds_of_mean(np.array(bad), 0.05, 0.05)


def test_beginnings_do_not_depend_on_what_comes_after():
    long = beginnings(500)
    assert long[:8] == list(range(8))
    assert all(beginnings(n) == [b for b in long if b < n] for n in range(1, 500))
    gaps = np.diff(long)
    assert (gaps <= 1 + 0.16 * np.array(long[:-1])).all()
    assert len(long) < 50


def test_a_late_change_is_found_where_a_bound_over_all_would_not_see_it():
    rng = np.random.default_rng(0)
    before = [rng.random(100) for _ in range(200)]
    after = [np.minimum(rng.random(100) * 0.8 + 0.2, 1.0) for _ in range(12)]
    found = find_rise([*before, *after], 0.01)
    assert found.low > 0.5
    assert 190 <= found.since <= 211
    assert bounds_of_mean(np.concatenate([*before, *after]), 0.01, 0.01)[0] < 0.5


def test_without_a_change_no_rise_is_seen():
    seen = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        blocks = [rng.random(50) for _ in range(40)]
        seen += any(find_rise(blocks[:n], 0.05).low > 0.5 for n in range(1, 41))
    assert seen <= 6
