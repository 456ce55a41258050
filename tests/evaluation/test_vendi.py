from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import entropy, ortho_group

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.vendi import vendi_score

ORDERS = [0.0, 0.3, 1.0, 2.0, 7.0, math.inf]


def slow(kernel: np.ndarray, order: float) -> float:
    """The definition, from all eigenvalues of the n×n matrix."""
    values = np.linalg.eigvalsh(kernel / len(kernel))
    values = values[values > 1e-12]
    if order == 0:
        return len(values)
    if order == 1:
        return math.exp(entropy(values))
    if math.isinf(order):
        return 1 / values.max()
    return (values**order).sum() ** (1 / (1 - order))


def cosine(x: np.ndarray) -> np.ndarray:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("n", "d"), [(60, 7), (25, 40), (30, 30)])
def test_equals_the_n_by_n_definition_at_any_shape_and_block(n: int, d: int, order: float) -> None:
    x = np.random.default_rng(0).normal(size=(n, d)) + 0.4
    found = vendi_score(x, order=order, block=11, groups=0)
    assert found.value == pytest.approx(slow(cosine(x), order), rel=1e-10)


@pytest.mark.parametrize("order", ORDERS)
def test_orthogonal_rows_count_fully_and_copies_once(order: float) -> None:
    rows = 3.0 * ortho_group.rvs(16, random_state=0)[:12]
    assert vendi_score(rows, order=order).value == pytest.approx(12, rel=1e-12)
    assert vendi_score(np.tile(rows[:1], (9, 1)), order=order).value == pytest.approx(1, rel=1e-12)
    groups = np.repeat(rows[:5], 8, axis=0)  # n > d: the other route
    assert vendi_score(groups, order=order).value == pytest.approx(5, rel=1e-12)


def test_unequal_groups_have_the_hill_number_of_their_shares() -> None:
    share = np.array([0.5, 0.25, 0.25])
    rows = np.repeat(np.eye(3), [20, 10, 10], axis=0)
    for order in [0.5, 2.0, 3.0]:
        expected = (share**order).sum() ** (1 / (1 - order))
        assert vendi_score(rows, order=order).value == pytest.approx(expected, rel=1e-12)
    found = vendi_score(rows, order=1.0)
    assert found.value == pytest.approx(2**1.5, rel=1e-12)
    np.testing.assert_allclose(found.per_sample, np.repeat(1 / share, [20, 10, 10]), rtol=1e-12)


@pytest.mark.parametrize("order", ORDERS[:-1])
@pytest.mark.parametrize(("n", "d", "kernel"), [(50, 6, "cosine"), (20, 30, "cosine"), (40, 3, "rbf")])
def test_the_score_is_the_power_mean_of_the_per_sample_scores(
    n: int, d: int, kernel: str, order: float
) -> None:
    x = np.random.default_rng(1).normal(size=(n, d)) + 0.3
    found = vendi_score(x, order=order, kernel=kernel, bandwidth=1.5 if kernel == "rbf" else None)
    t = found.per_sample
    mean = math.exp(np.log(t).mean()) if order == 1 else (t ** (1 - order)).mean() ** (1 / (1 - order))
    assert mean == pytest.approx(found.value, rel=1e-9)


def test_the_rare_sample_scores_highest() -> None:
    rng = np.random.default_rng(2)
    x = np.eye(6)[rng.integers(0, 2, 80)] + 0.02 * rng.normal(size=(80, 6))
    x[17] = np.eye(6)[4]
    assert vendi_score(x).per_sample.argmax() == 17


def test_per_sample_scores_are_the_derivative_of_the_entropy() -> None:
    """log of the score grows by (log t_i − mean) per weight that moves to sample i: by adding copies."""
    x = np.random.default_rng(3).normal(size=(40, 5))
    found = vendi_score(x, groups=0)
    heavy = np.concatenate([np.repeat(x, 1000, axis=0), np.tile(x[7], (5, 1))])
    slope = math.log(vendi_score(heavy, groups=0).value / found.value) / (5 / 40005)
    assert slope == pytest.approx(math.log(found.per_sample[7]) - math.log(found.value), abs=5e-4)


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0, math.inf])
def test_rbf_equals_the_definition(order: float) -> None:
    x = np.random.default_rng(4).normal(size=(45, 3))
    kernel = np.exp(-(cdist(x, x) ** 2) / (2 * 0.7**2))
    found = vendi_score(x, order=order, kernel="rbf", bandwidth=0.7, block=8)
    assert found.value == pytest.approx(slow(kernel, order), rel=1e-9)


def test_near_order_one_it_is_continuous_and_large_orders_do_not_underflow() -> None:
    x = np.random.default_rng(5).normal(size=(100, 8))
    limit = vendi_score(x, order=1.0).value
    for order in [1 - 1e-7, 1 + 1e-7, 1 + 1e-9]:
        assert vendi_score(x, order=order).value == pytest.approx(limit, rel=1e-6)
    top = vendi_score(x, order=math.inf).value
    assert vendi_score(x, order=3000.0).value == pytest.approx(top, rel=1e-2)


@pytest.mark.parametrize(("n", "d"), [(80, 4), (40, 100)])
def test_the_interval_covers_the_score_expected_at_this_n(n: int, d: int) -> None:
    rng = np.random.default_rng(6)
    scale = 1 / np.arange(1, d + 1)
    found = [vendi_score(rng.normal(size=(n, d)) * scale + 0.2, groups=10) for _ in range(200)]
    truth = np.mean([r.value for r in found])
    covered = np.mean([r.interval[0] <= truth <= r.interval[1] for r in found])
    assert 0.90 <= covered <= 0.99


def test_scale_and_rotation_do_not_matter() -> None:
    x = np.random.default_rng(7).normal(size=(50, 6)) + 1
    turned = (x * np.geomspace(1e-160, 1e160, 50)[:, None]) @ ortho_group.rvs(6, random_state=1)
    assert vendi_score(turned).value == pytest.approx(vendi_score(x).value, rel=1e-12)


def test_the_jackknife_follows_its_seed_and_says_so() -> None:
    x = np.random.default_rng(8).normal(size=(50, 6))
    first, second, other = (vendi_score(x, seed=s) for s in (1, 1, 2))
    assert first.interval == second.interval != other.interval
    assert first.seed == 1
    assert "jackknife:20" in first.signature
    assert vendi_score(x, groups=0).interval is None
    assert vendi_score(x, order=0).interval is None


def test_bad_input_gets_one_sentence() -> None:
    x = np.ones((5, 3))
    with pytest.raises(CallError, match="at least 2"):
        vendi_score(x[:1])
    with pytest.raises(CallError, match="sample 3 has only zeros"):
        vendi_score(np.where(np.arange(5)[:, None] == 3, 0, x))
    with pytest.raises(CallError, match="order must be"):
        vendi_score(x, order=-1)
    with pytest.raises(CallError, match="order must be"):
        vendi_score(x, order=math.nan)
    with pytest.raises(CallError, match="did you mean 'cosine'"):
        vendi_score(x, kernel="cosin")
    with pytest.raises(CallError, match="bandwidth"):
        vendi_score(x, kernel="rbf")
    with pytest.raises(CallError, match="bandwidth"):
        vendi_score(x, bandwidth=1.0)
    with pytest.raises(CallError, match="bandwidth"):
        vendi_score(x, bandwidth=-1.0)
