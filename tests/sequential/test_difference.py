"""A/B at any time: coverage, power, and the same for unequal shares."""

from __future__ import annotations

import numpy as np
import pytest

from niwaki.sequential.difference import compare_arms
from niwaki_runtime.errors import CallError


def trial(seed, a, b, n=2000, share=0.5):
    rng = np.random.default_rng(seed)
    given_b = rng.random(n) < share
    return (rng.random(n) < np.where(given_b, b, a)).astype(float), given_b


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_the_bounds_hold_at_every_look(share):
    missed = 0
    for seed in range(120):
        y, z = trial(seed, 0.4, 0.4, share=share)
        looks = [compare_arms(y[:n], z[:n], share=share) for n in range(50, 2001, 50)]
        missed += any(not look.low <= 0.0 <= look.high for look in looks)
    assert missed <= 0.05 * 120 + 5


def test_a_t_test_that_is_looked_at_as_often_is_wrong_far_oftener():
    from scipy.stats import ttest_ind

    wrong = 0
    for seed in range(120):
        y, z = trial(seed, 0.4, 0.4)
        wrong += any(ttest_ind(y[:n][z[:n]], y[:n][~z[:n]]).pvalue < 0.05 for n in range(50, 2001, 50))
    assert wrong > 0.15 * 120


def test_a_difference_that_is_there_is_found_and_its_sign_is_right():
    y, z = trial(0, 0.4, 0.6)
    assert compare_arms(y, z).decision == "better"
    assert compare_arms(y, ~z).decision == "worse"


def test_arms_without_a_difference_are_alike_once_the_bounds_are_narrow():
    y, z = trial(1, 0.5, 0.5, n=20_000)
    assert compare_arms(y, z, margin=0.1).decision == "alike"
    assert compare_arms(y[:100], z[:100], margin=0.1).decision == "go on"


def test_means_and_counts_are_those_of_the_arms():
    found = compare_arms(np.array([1.0, 0.0, 1.0, 1.0]), np.array([True, False, True, False]))
    assert (found.a, found.b, found.n_a, found.n_b) == (0.5, 1.0, 2, 2)
    assert compare_arms(np.zeros(0), np.zeros(0, bool)).decision == "go on"


def test_wrong_outcomes_and_shares_are_refused():
    with pytest.raises(CallError, match="0 … 1"):
        compare_arms(np.array([2.0]), np.array([True]))
    with pytest.raises(CallError, match="share"):
        compare_arms(np.array([1.0]), np.array([True]), share=1.0)
