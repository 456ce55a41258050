from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics import shares
from niwaki.evaluation.statistics.result import Z95, wilson


def test_published_intervals_of_differences_are_reproduced() -> None:
    """Newcombe 1998, table II of the first paper (method 10), and the worked example of the second."""
    assert shares.difference(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert shares.difference(9, 10, 3, 10) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert shares.paired_difference(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_wilsons_interval_is_the_root_of_the_score_test() -> None:
    """Its ends are the shares p at which |p̂ − p| = z·√(p(1−p)/n)."""
    for hits, n, z in [(7, 40, 1.5), (39, 40, 3.0), (0, 9, 2.0)]:
        low, high = wilson(hits, n, z)
        for end in {low, high} - {0.0}:
            assert abs(hits / n - end) == pytest.approx(z * (end * (1 - end) / n) ** 0.5, rel=1e-9)
    assert wilson(0, 0) == (0.0, 1.0)


def test_exchanging_the_sides_turns_the_intervals_around() -> None:
    low, high = shares.difference(5, 30, 20, 50)
    assert shares.difference(20, 50, 5, 30) == pytest.approx((-high, -low), rel=1e-12)
    low, high = shares.paired_difference(11, 7, 3, 19)
    assert shares.paired_difference(11, 3, 7, 19) == pytest.approx((-high, -low), rel=1e-12)
    low, high = shares.ratio(5, 30, 20, 50)
    assert shares.ratio(20, 50, 5, 30) == pytest.approx((1 / high, 1 / low), rel=1e-9)


def test_intervals_have_a_width_at_the_ends() -> None:
    assert shares.difference(0, 20, 0, 20)[1] > 0.1
    assert shares.paired_difference(20, 0, 0, 0)[1] > 0.1
    assert shares.ratio(0, 50, 10, 50)[0] == 0
    assert 0 < shares.ratio(0, 50, 10, 50)[1] < 1
    assert shares.ratio(3, 50, 0, 50)[1] == np.inf
    assert shares.ratio(0, 50, 0, 50) == (0.0, np.inf)


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.3), (0.03, 0.06), (0.95, 0.9), (0.02, 0.02)])
def test_intervals_cover_the_truth_in_95_of_100(p: float, q: float) -> None:
    rng = np.random.default_rng(0)
    n, m, repeats = 150, 220, 3000
    first, second = rng.binomial(n, p, repeats), rng.binomial(m, q, repeats)
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    differences = np.array([shares.difference(a, n, b, m) for a, b in pairs])
    ratios = np.array([shares.ratio(a, n, b, m) for a, b in pairs])
    assert 0.935 <= np.mean((differences[:, 0] <= p - q) & (p - q <= differences[:, 1])) <= 0.99
    assert 0.935 <= np.mean((ratios[:, 0] <= p / q) & (p / q <= ratios[:, 1])) <= 0.99


def test_paired_intervals_cover_the_truth_and_gain_from_the_pairing() -> None:
    rng = np.random.default_rng(1)
    table = rng.multinomial(200, [0.8, 0.07, 0.03, 0.1], 3000)
    found = np.array([shares.paired_difference(*map(int, row)) for row in table])
    assert 0.935 <= np.mean((found[:, 0] <= 0.04) & (found[:, 1] >= 0.04)) <= 0.98
    alone = np.array([shares.difference(r[0] + r[1], 200, r[0] + r[2], 200) for r in table.tolist()])
    assert np.diff(found).mean() < 0.7 * np.diff(alone).mean()


def test_bonferroni_and_holm() -> None:
    assert shares.bonferroni(1) == pytest.approx(Z95, rel=1e-12)
    assert 20 * 2 * norm.sf(shares.bonferroni(20)) == pytest.approx(0.05, rel=1e-9)
    assert shares.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert shares.holm([0.9, 0.8]) == [1.0, 1.0]


def test_only_whole_numbers_are_integers() -> None:
    np.testing.assert_array_equal(shares.integers([0.0, 2.0], "labels"), [0, 2])
    for bad in ([0.5], [np.nan], ["a"], [[1]], [-1]):
        with pytest.raises(CallError, match="the labels must be"):
            shares.integers(bad, "labels")
    with pytest.raises(CallError, match="each of the 3 samples"):
        shares.integers([1, 2], "labels", 3)
