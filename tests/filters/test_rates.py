"""The mathematics of thresholds and ROC curves, against their definitions and against simulation."""

import numpy as np
import pytest

from niwaki.core.contract import CallError
from niwaki.filters.rates import area_under, roc, threshold_at


@pytest.mark.parametrize(("n", "rate"), [(99, 0.05), (19, 0.05), (400, 0.01)])
def test_the_promised_rate_holds_on_average_and_its_interval_covers_it(n, rate):
    rng = np.random.default_rng(0)
    rates, inside = [], 0
    for _ in range(2000):
        found = threshold_at(rng.random(n), rate)
        true = 1.0 - found.value  # scores are uniform, so this is the rate of fresh ones
        rates.append(true)
        inside += found.interval[0] <= true <= found.interval[1]
    assert found.rate <= rate
    assert abs(np.mean(rates) - found.rate) < 4 * np.std(rates) / np.sqrt(2000)
    assert abs(inside / 2000 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


def test_ties_withhold_no_more_than_promised():
    scores = np.repeat([0.0, 0.5, 1.0], [50, 45, 5])
    found = threshold_at(scores, 0.1)
    assert (scores > found.value).mean() <= 0.1


def test_too_few_samples_cannot_promise_a_small_rate():
    with pytest.raises(CallError, match="at least 99 held-out good samples"):
        threshold_at(np.zeros(98), 0.01)
    assert threshold_at(np.arange(99.0), 0.01).value == 98.0


def test_every_point_of_the_curve_is_the_share_above_its_threshold():
    rng = np.random.default_rng(1)
    good, bad = np.round(rng.normal(0, 1, 60), 1), np.round(rng.normal(1, 1, 40), 1)
    at, false, true = roc(good, bad)
    assert false[0] == true[0] == 0
    assert false[-1] == true[-1] == 1
    for threshold, f, t in zip(at, false, true, strict=True):
        assert f == pytest.approx((good > threshold).mean())
        assert t == pytest.approx((bad > threshold).mean())


def test_the_area_is_the_chance_that_a_bad_sample_scores_higher_and_that_under_the_curve():
    rng = np.random.default_rng(2)
    good, bad = np.round(rng.normal(0, 1, 60), 1), np.round(rng.normal(1, 1, 40), 1)
    pairs = (bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean()
    _, false, true = roc(good, bad)
    assert area_under(good, bad).value == pytest.approx(pairs)
    assert np.trapezoid(true, false) == pytest.approx(pairs)


def test_the_interval_of_the_area_covers_it():
    rng = np.random.default_rng(3)
    true = 0.7602499389065233  # Φ(1/√2)
    hits = [
        low <= true <= high
        for low, high in (
            area_under(rng.normal(0, 1, 80), rng.normal(1, 1, 50)).interval for _ in range(1000)
        )
    ]
    assert abs(np.mean(hits) - 0.95) < 0.03


def test_a_perfect_filter_of_few_samples_is_not_said_to_be_sure():
    found = area_under(np.zeros(100), np.ones(10))
    assert found.value == 1
    assert found.interval[0] == pytest.approx(0.025**0.1)
