from __future__ import annotations

import numpy as np
import pytest

from niwaki.contract import CallError
from niwaki.evaluation import kernel_distance


def slow(x: np.ndarray, y: np.ndarray) -> float:
    """Double loops over the definition."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


@pytest.mark.parametrize("block", [4, 7, 2048])
def test_equals_the_double_loop_at_any_block(block: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 5)), rng.normal(size=(17, 5)) + 0.4
    assert kernel_distance(x, y, block=block).value == pytest.approx(slow(x, y), rel=1e-11)


def repeats(shift: float, count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    found = [
        kernel_distance(rng.normal(size=(60, 4)), rng.normal(size=(80, 4)) + shift) for _ in range(count)
    ]
    value = np.array([r.value for r in found])
    return value, np.array([(r.interval[1] - r.value) / 1.959963984540054 for r in found])


def test_unbiased_and_its_error_known_where_the_distributions_are_equal() -> None:
    value, error = repeats(0.0)
    assert abs(value.mean()) < 4 * value.std() / np.sqrt(len(value))
    assert 0.8 < np.sqrt((error**2).mean()) / value.std() < 1.2


def test_the_interval_covers_the_truth_in_95_of_100() -> None:
    """For x ~ N(a, I), y ~ N(b, I) and t = x·y/d, E k(x, y) = 1 + 3 E t + 3 E t² + E t³ has a closed form."""
    value, error = repeats(0.4)
    d, mu2 = 4, 4 * 0.4**2

    def moment(
        a2: float, b2: float, ab: float
    ) -> float:  # means a, b with squared lengths a2, b2 and product ab
        first = ab / d
        second = (d + a2 + b2 + ab**2) / d**2
        third = (ab**3 + 3 * ab * (d + 2 + a2 + b2)) / d**3
        return 1 + 3 * first + 3 * second + third

    # E t³ with x = a + u, y = b + v: E(a·b + a·v + u·b + u·v)³
    truth = moment(0, 0, 0) + moment(mu2, mu2, mu2) - 2 * moment(0, mu2, 0)
    assert abs(value.mean() - truth) < 4 * value.std() / np.sqrt(len(value))
    assert 0.92 < np.mean(np.abs(value - truth) < 1.96 * error) < 0.98


def test_the_witness_points_at_the_odd_samples() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=(100, 4))
    y[:10] += 4
    witness = kernel_distance(rng.normal(size=(200, 4)), y).per_sample
    assert set(np.argsort(-witness)[:10]) == set(range(10))


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(CallError, match="at least 4"):
        kernel_distance(np.eye(3), np.eye(3))
