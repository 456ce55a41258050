from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from niwaki.evaluation.equivalence.paired import (
    log_realism_change,
    rarefied_coverage_change,
    rarefied_coverage_influence,
)
from niwaki.evaluation.metrics.gram import gram_metrics
from niwaki.evaluation.pairwise.neighbourhood import (
    CLIP,
    neighbourhood,
    neighbourhoods,
    rarefied_coverage,
    rarefied_coverage_table,
)

RNG = np.random.default_rng(0)


def test_rarefied_coverage_is_the_mean_over_all_draws_without_replacement() -> None:
    real, generated = RNG.normal(size=(12, 2)), RNG.normal(size=(9, 2))
    place = neighbourhood(real, generated, k=2)
    m = 4
    hits = np.zeros(12)
    draws = list(combinations(range(9), m))
    for draw in draws:
        hits[np.unique(place.claims[list(draw)])] += 1
    np.testing.assert_allclose(rarefied_coverage(place.counts(), 9, m), hits / len(draws), atol=1e-12)


def test_rarefied_coverage_does_not_depend_on_the_number_of_samples() -> None:
    rng = np.random.default_rng(1)
    real = rng.normal(size=(100, 3))
    few, many = [], []
    for _ in range(60):
        few.append(
            rarefied_coverage(neighbourhood(real, rng.normal(size=(200, 3))).counts(), 200, 100).mean()
        )
        many.append(
            rarefied_coverage(neighbourhood(real, rng.normal(size=(600, 3))).counts(), 600, 100).mean()
        )
    error = np.hypot(np.std(few), np.std(many)) / np.sqrt(60)
    assert abs(np.mean(few) - np.mean(many)) < 4 * error
    assert np.std(many) < np.std(few)


def test_log_realism_equals_its_definition() -> None:
    real, generated = RNG.normal(size=(40, 3)), 2 * RNG.normal(size=(30, 3))
    own = np.sqrt(((real[:, None] - real[None]) ** 2).sum(2))
    radius = np.sort(own, axis=1)[:, 5]
    radius = np.minimum(radius, np.sort(radius)[19])  # torch's median: the lower of the two in the middle
    d = np.sqrt(((generated[:, None] - real[None]) ** 2).sum(2))
    near = np.argsort(d, axis=1)[:, :5]
    expected = np.log(radius[near] / np.take_along_axis(d, near, 1)).max(1).clip(-CLIP, CLIP)
    np.testing.assert_allclose(neighbourhood(real, generated).log_realism, expected, rtol=1e-10)


def test_several_sets_at_once_and_the_sweep_of_all_metrics_give_the_same() -> None:
    real, sets = RNG.normal(size=(70, 6)), [RNG.normal(size=(n, 6)) * (1 + n / 50) for n in (20, 33, 41)]
    sets[2][4] = real[3]  # a copy, and ties with it
    sets[2][5] = real[3]
    together = neighbourhoods(real, sets, k=4)
    for one, place in zip(sets, together, strict=True):
        alone = neighbourhood(real, one, k=4)
        swept = gram_metrics(real, one, k=4, claims=True, block=16).neighbourhood
        for found in (place, swept):
            np.testing.assert_array_equal(found.claims, alone.claims)
            np.testing.assert_array_equal(found.distance, alone.distance)
            np.testing.assert_array_equal(found.log_realism, alone.log_realism)
            assert found.real == 70
    assert gram_metrics(real, sets[0]).neighbourhood is None


def test_copies_and_ruins_count_as_one_sample_each() -> None:
    real = RNG.normal(size=(50, 3))
    place = neighbourhood(real, np.concatenate([real[:1], real[:1] + 1e6]))
    assert place.log_realism.tolist() == [CLIP, -CLIP]


def test_the_influence_is_the_delete_one_difference() -> None:
    place = neighbourhood(RNG.normal(size=(25, 2)), RNG.normal(size=(40, 2)), k=3)
    n, m = 40, 15
    brute = np.array([rarefied_coverage(place.counts(np.arange(n) != j), n - 1, m).mean() for j in range(n)])
    influence = rarefied_coverage_influence(place, n, m)
    np.testing.assert_allclose(influence - influence.mean(), brute.mean() - brute, atol=1e-12)


def test_the_table_ends_where_it_must() -> None:
    table = rarefied_coverage_table(10, 4)
    assert table[0] == pytest.approx(0, abs=1e-12)
    assert table[1] == pytest.approx(0.4)
    assert (table[7:] == 1).all()  # four drawn of ten must hold one of seven


def test_swapping_every_pair_negates_the_change() -> None:
    real = RNG.normal(size=(40, 2))
    b, a = RNG.normal(size=(90, 2)), RNG.normal(size=(90, 2)) * 0.7
    swaps = RNG.integers(0, 2, (99, 90)).astype(bool)
    places = [(neighbourhood(real, b), neighbourhood(real, a))]
    turned = [(p[1], p[0]) for p in places]
    for change in (log_realism_change, lambda p, s: rarefied_coverage_change(p, s, 40)):
        first, second = change(places, swaps), change(turned, swaps)
        assert first.delta == pytest.approx(-second.delta, abs=1e-12)
        assert first.pair_variance == pytest.approx(second.pair_variance, rel=1e-9)


def test_the_p_value_is_uniform_where_before_and_after_are_exchangeable() -> None:
    rng = np.random.default_rng(2)
    p_values = []
    for _ in range(150):
        real = rng.normal(size=(40, 2))
        b, a = rng.normal(size=(80, 2)), rng.normal(size=(80, 2))
        swaps = rng.integers(0, 2, (99, 80)).astype(bool)
        place = [(neighbourhood(real, b), neighbourhood(real, a))]
        p_values.append(
            [log_realism_change(place, swaps).p_value, rarefied_coverage_change(place, swaps, 40).p_value]
        )
    for column in np.array(p_values).T:
        assert 0.40 < column.mean() < 0.60
        assert np.mean(column <= 0.1) < 0.19
