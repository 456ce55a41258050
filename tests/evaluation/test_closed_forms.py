from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.manifold import manifold
from niwaki.evaluation.statistics.closed_forms import (
    clipped_coverage_share,
    expected_clipped_coverage,
    expected_coverage,
)


def slow_clipped(n: int, m: int, k: int) -> float:
    """E min(J, k)/k by the whole distribution of J, in exact fractions."""
    total = Fraction(0)
    for j in range(m + 1):
        p = Fraction(comb(k - 1 + j, j) * comb(n - 1 - k + m - j, m - j), comb(n - 1 + m, m))
        total += Fraction(min(j, k), k) * p
    return float(total)


@pytest.mark.parametrize(("n", "m", "k"), [(10, 12, 3), (50, 40, 5), (300, 200, 5), (7, 30, 6)])
def test_the_closed_form_equals_the_sum_over_the_distribution(n: int, m: int, k: int) -> None:
    f = expected_clipped_coverage(n, m, k)
    for some in (0, 1, k - 1, k, m // 2, m):
        assert f[some] == pytest.approx(slow_clipped(n, some, k), abs=1e-10)


def test_coverage_is_the_chance_that_some_generated_sample_comes_before_the_kth_real_one() -> None:
    for n, m, k in [(20, 30, 3), (100, 50, 5)]:
        p0 = Fraction(comb(n - 1 - k + m, m), comb(n - 1 + m, m))  # J = 0
        assert expected_coverage(n, m, k) == pytest.approx(1 - float(p0), abs=1e-12)


def test_a_perfect_generator_reads_its_expectation() -> None:
    rng = np.random.default_rng(0)
    coverage, capped, share = [], [], []
    for _ in range(60):
        found = manifold(rng.normal(size=(80, 3)), rng.normal(size=(60, 3)), k=4)
        coverage.append(found.coverage.value)
        capped.append(found.clipped_coverage.per_sample.mean())
        share.append(found.density.value)
    for values, truth in [
        (coverage, expected_coverage(80, 60, 4)),
        (capped, expected_clipped_coverage(80, 60, 4)[-1]),
        (share, 1.0),
    ]:
        assert abs(np.mean(values) - truth) < 4 * np.std(values) / np.sqrt(len(values))


def test_the_share_undoes_the_expectation() -> None:
    f = expected_clipped_coverage(120, 90, 5)
    for good in (0, 9, 45, 90):
        assert clipped_coverage_share(float(f[good]), 120, 90, 5) == pytest.approx(good / 90, abs=1e-9)


def test_k_must_fit() -> None:
    with pytest.raises(CallError, match="k must be"):
        expected_coverage(5, 10, 5)
