from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation import manifold
from niwaki.evaluation.metrics.clusters import coverage_per_cluster
from niwaki.evaluation.statistics import shares

CENTRES = 20 * np.random.default_rng(99).normal(size=(10, 4))


def modes(which: np.ndarray, seed: int) -> np.ndarray:
    return CENTRES[which] + np.random.default_rng(seed).normal(size=(len(which), 4))


def test_counts_and_shares_equal_the_nearest_centre_by_hand() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 3)), rng.normal(size=(120, 3)) + 0.3
    found = coverage_per_cluster(x, y, clusters=6, k=3)
    centres = np.stack([x[found.real_cluster == c].mean(0) for c in range(6)])  # k-means has converged
    for place, points in ((found.real_cluster, x), (found.generated_cluster, y)):
        np.testing.assert_array_equal(place, ((points[:, None] - centres) ** 2).sum(2).argmin(1))
    covered = manifold(x, y, 3).coverage.per_sample
    for c in found.clusters:
        members = np.flatnonzero(found.real_cluster == c.index)
        assert (c.real, c.generated) == (len(members), (found.generated_cluster == c.index).sum())
        assert c.ratio.value == pytest.approx((c.generated / 120) / (c.real / 90))
        assert c.ratio.interval == pytest.approx(
            shares.ratio(c.generated, 120, c.real, 90, shares.bonferroni(6))
        )
        np.testing.assert_array_equal(c.covered.per_sample, covered[members])
        assert c.covered.value == pytest.approx(covered[members].mean())
        far = ((x[members] - centres[c.index]) ** 2).sum(1)
        np.testing.assert_array_equal(c.typical, members[np.argsort(far)][:8])
    assert sum(c.expected for c in found.clusters) == pytest.approx(1)


def test_the_lost_modes_are_named_and_no_other() -> None:
    label = np.arange(1000) % 10
    kept = np.array([0, 1, 2, 4, 5, 6, 8, 9])
    found = coverage_per_cluster(
        modes(label, 1),
        modes(kept[np.arange(800) % 8], 2),
        clusters=10,
        labels=label,
        names=list("abcdefghij"),
    )
    assert sorted(found.clusters[i].name.split("% ")[1] for i in found.dropped) == ["d)", "h)"]
    for c in found.clusters:
        if c.index in found.dropped:
            assert (c.real, c.generated, c.ratio.value, c.covered.value) == (100, 0, 0, 0)
            assert (label[c.typical] == label[c.typical[0]]).all()
        else:
            assert c.ratio.value == pytest.approx(1.25)
            assert c.covered.value == pytest.approx(c.covered.floor, abs=0.08)


def test_a_mode_at_a_third_is_dropped_and_one_at_four_fifths_is_not() -> None:
    rng = np.random.default_rng(3)
    share = np.full(10, 0.1)
    share[3], share[7] = 0.033, 0.08
    found = coverage_per_cluster(
        modes(np.arange(3000) % 10, 4), modes(rng.choice(10, 3000, p=share / share.sum()), 5), clusters=10
    )
    ratios = sorted((c.ratio.value, c.index) for c in found.clusters)
    assert found.dropped == (ratios[0][1],)
    assert 0.2 < ratios[0][0] < 0.45


def test_alike_sets_have_no_dropped_cluster_in_95_of_100() -> None:
    """Also with lone outliers, for which k-means likes to make a cell."""
    rng = np.random.default_rng(6)
    named = [
        bool(coverage_per_cluster(rng.standard_t(3, (200, 2)), rng.standard_t(3, (200, 2)), seed=s).dropped)
        for s in range(60)
    ]
    assert np.mean(named) <= 0.05


def test_cells_can_be_fitted_to_another_split() -> None:
    label = np.arange(400) % 10
    train, test, generated = modes(label, 7), modes(label[:60] % 5, 8), modes(label, 9)
    found = coverage_per_cluster(test, generated, fit=train, clusters=10)
    empty = [c for c in found.clusters if c.real == 0]
    assert len(empty) == 5
    for c in empty:
        assert c.ratio.value == np.inf
        assert c.ratio.interval[0] > 0.5
        assert c.covered is None
        assert c.generated == 40
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [c["ratio"]["value"] for c in record["clusters"] if c["real"] == 0] == [None] * 5


def test_few_or_equal_samples_get_fewer_clusters() -> None:
    x = np.random.default_rng(10).normal(size=(43, 2))
    assert len(coverage_per_cluster(x, x).clusters) == 4
    two = np.repeat([[0.0, 0], [5.0, 5]], 200, axis=0)
    found = coverage_per_cluster(two, two[:210])
    assert sorted((c.real, c.generated) for c in found.clusters) == [(200, 10), (200, 200)]
    assert len(found.dropped) == 1


def test_the_same_seed_repeats_it_from_torch_too() -> None:
    x, y = np.random.default_rng(11).normal(size=(2, 100, 3))
    first = coverage_per_cluster(x, y, seed=5)
    assert coverage_per_cluster(torch.from_numpy(x), torch.from_numpy(y), seed=5).to_json() == first.to_json()
    assert first.clusters[0].ratio.seed == 5


def test_bad_input_gets_one_sentence() -> None:
    x = np.random.default_rng(12).normal(size=(30, 3))
    with pytest.raises(CallError, match="too few for 5 neighbours"):
        coverage_per_cluster(x[:5], x)
    with pytest.raises(CallError, match="fit has 2 features"):
        coverage_per_cluster(x, x, fit=x[:, :2])
    with pytest.raises(CallError, match="each of the 30 samples"):
        coverage_per_cluster(x, x, labels=[1, 2])
    with pytest.raises(CallError, match="1 class names, but the class 1"):
        coverage_per_cluster(x, x, labels=np.ones(30), names=["a"])
    with pytest.raises(CallError, match="at least 1"):
        coverage_per_cluster(x, x, clusters=0)
    with pytest.raises(CallError, match="NaN"):
        coverage_per_cluster(x, x * np.nan)
