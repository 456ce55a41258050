from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.kernel import KernelSubsets, kernel_distance, kernel_test, polynomial
from niwaki.evaluation.pairwise.mmd import discrepancy


def k(a: np.ndarray, b: np.ndarray) -> float:
    return float((a @ b / len(a) + 1) ** 3)


def slow(x: np.ndarray, y: np.ndarray) -> float:
    """Double loops over the definition."""
    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


@pytest.mark.parametrize("block", [4, 7, 2048])
def test_equals_the_double_loop_at_any_block(block: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 5)), rng.normal(size=(17, 5)) + 0.4
    found = kernel_distance(x, y, block=block)
    assert found.value == pytest.approx(slow(x, y), rel=1e-11)
    assert found.interval == pytest.approx(kernel_distance(x, y).interval, rel=1e-11)


def test_equals_torchmetrics() -> None:
    kid = pytest.importorskip("torchmetrics.image.kid")
    rng = np.random.default_rng(6)
    x, y = torch.from_numpy(rng.normal(size=(40, 12))), torch.from_numpy(rng.normal(size=(40, 12)) * 1.3)
    theirs = kid.poly_mmd(x, y, 3, None, 1.0)
    assert kernel_distance(x, y).value == pytest.approx(float(theirs), rel=1e-10)
    theirs = kid.poly_mmd(x, y, 2, 0.3, 0.5)
    ours = kernel_distance(x, y, degree=2, gamma=0.3, coef=0.5)
    assert ours.value == pytest.approx(float(theirs), rel=1e-10)


def repeats(shift: float, count: int, n: int = 100, m: int = 120) -> tuple[np.ndarray, ...]:
    """Values, standard errors, lower and upper ends, for N(0, I) and N(shift, I) in 4 dimensions."""
    rng = np.random.default_rng(1)
    kernel, found = polynomial(3, 1 / 4, 1.0), []
    for _ in range(count):
        x, y = (torch.from_numpy(rng.normal(size=(s, 4)) + at) for s, at in ((n, 0.0), (m, shift)))
        r = discrepancy(x, y, kernel, 2048)
        found.append((r.value, r.error, *r.interval()))
    return tuple(np.array(found).T)


def truth(shift: float, d: int = 4) -> float:
    """For x ~ N(a, I), y ~ N(b, I) and t = x·y/d: E k(x, y) = 1 + 3 E t + 3 E t² + E t³."""

    def moment(a2: float, b2: float, ab: float) -> float:  # squared lengths of the means, and their product
        second = (d + a2 + b2 + ab**2) / d**2
        third = (ab**3 + 3 * ab * (d + 2 + a2 + b2)) / d**3
        return 1 + 3 * ab / d + 3 * second + third

    mu2 = d * shift**2
    return moment(0, 0, 0) + moment(mu2, mu2, mu2) - 2 * moment(0, mu2, 0)


def test_unbiased_and_its_error_known_where_the_distributions_are_equal() -> None:
    value, error, low, high = repeats(0.0, 400)
    assert abs(value.mean()) < 4 * value.std() / np.sqrt(len(value))
    assert 0.8 < np.sqrt((error**2).mean()) / value.std() < 1.2
    assert np.mean((low <= 0) & (high >= 0)) > 0.94


@pytest.mark.parametrize("shift", [0.2, 0.4])
def test_unbiased_and_covered_where_they_differ(shift: float) -> None:
    value, error, low, high = repeats(shift, 200)
    assert abs(value.mean() - truth(shift)) < 4 * value.std() / np.sqrt(len(value))
    assert 0.85 < np.sqrt((error**2).mean()) / value.std() < 1.15
    covered = (low <= truth(shift)) & (truth(shift) <= high)
    assert 0.90 < covered.mean() < 0.99


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.2, 0.4, 0.7])
def test_the_interval_covers_the_truth_in_95_of_100(shift: float) -> None:
    """300 and 360 samples; with 100 and 120 of these heavy tails it was 92.6 … 95.4 %."""
    value, _, low, high = repeats(shift, 1000, 300, 360)
    assert abs(value.mean() - truth(shift)) < 4 * value.std() / np.sqrt(len(value))
    assert 0.93 <= np.mean((low <= truth(shift)) & (truth(shift) <= high)) <= 0.97
    assert np.mean(low > truth(shift)) < 0.045  # on both sides
    assert np.mean(high < truth(shift)) < 0.045


def test_permuted_labels_equal_the_distance_of_the_permuted_sets() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(11, 3)), rng.normal(size=(14, 3)) + 0.5
    found = kernel_test(x, y, permutations=20, block=6, seed=5)
    assert found.distance.value == pytest.approx(slow(x, y), rel=1e-11)
    labels = np.zeros((25, 20))
    labels[:11] = 1
    labels = np.random.default_rng(5).permuted(labels, axis=0).astype(bool)
    both = np.concatenate([x, y])
    expected = [slow(both[column], both[~column]) for column in labels.T]
    np.testing.assert_allclose(found.null, expected, rtol=1e-10)
    assert found.p_value == (1 + sum(v >= slow(x, y) for v in expected)) / 21


def test_permutation_at_the_null_and_away_from_it() -> None:
    """p is uniform on 1/20 … 1 where the distributions are equal, and small where they are not."""
    rng = np.random.default_rng(4)
    p = []
    for _ in range(200):
        p.append(kernel_test(rng.normal(size=(20, 3)), rng.normal(size=(25, 3)), permutations=19).p_value)
    assert kstest(np.array(p) - rng.uniform(0, 0.05, 200), "uniform").pvalue > 1e-3
    assert kernel_test(rng.normal(size=(60, 3)), rng.normal(size=(60, 3)) + 1).p_value == 1 / 200
    x = rng.normal(size=(20, 3))
    assert kernel_test(x, x).p_value == 1.0


@pytest.mark.parametrize("compat", ["torch-fidelity", "clean-fid"])
def test_subsets_equal_the_references_formula_and_draws(compat: str) -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(60, 5)), rng.normal(size=(50, 5)) + 0.3
    found = kernel_distance(x, y, subsets=7, subset_size=20, seed=2020, compat=compat)
    draw = np.random.RandomState(2020)
    expected = []
    for _ in range(7):
        if compat == "torch-fidelity":  # metric_kid.py: choice of features_1, then of features_2
            a, b = x[draw.choice(60, 20, replace=False)], y[draw.choice(50, 20, replace=False)]
        else:  # fid.py: choice of feats2, then of feats1, under numpy's global seed
            b, a = y[draw.choice(50, 20, replace=False)], x[draw.choice(60, 20, replace=False)]
        expected.append(slow(a, b))
    assert isinstance(found, KernelSubsets)
    np.testing.assert_allclose(found.subsets, expected, rtol=1e-10)
    assert found.value == pytest.approx(np.mean(expected), rel=1e-10)
    assert "subsets:7x20" in found.signature
    if compat == "torch-fidelity":
        with pytest.raises(CallError, match="50 samples"):
            kernel_distance(x, y, compat=compat)
    else:
        assert len(kernel_distance(x, y, compat=compat).subsets) == 100


def test_subsets_spread_around_the_full_statistic() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(80, 4)), rng.normal(size=(90, 4)) + 0.4
    full = kernel_distance(x, y)
    found = kernel_distance(x, y, subsets=400, subset_size=30)
    error = found.subsets.std() / 20
    assert abs(found.value - full.value) < 4 * error
    width = full.interval[1] - full.interval[0]
    assert width < found.interval[1] - found.interval[0] < width + 4 * error
    assert (
        kernel_distance(x, y, subsets=5, subset_size=30).value
        != kernel_distance(x, y, subsets=5, subset_size=30, seed=1).value
    )
    everything = kernel_distance(x, y[:80], subsets=2)  # 1000 of 80: all of them
    assert everything.value == pytest.approx(kernel_distance(x, y[:80]).value, rel=1e-10)


def test_the_witness_points_at_the_odd_samples() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=(100, 4))
    y[:10] += 4
    witness = kernel_distance(rng.normal(size=(200, 4)), y).per_sample
    assert set(np.argsort(-witness)[:10]) == set(range(10))


def test_constant_features_have_distance_and_error_zero() -> None:
    found = kernel_distance(np.ones((10, 3)), np.ones((12, 3)))
    assert found.value == pytest.approx(0, abs=1e-12)
    assert found.interval == pytest.approx((0, 0), abs=1e-12)


def test_bad_input_gets_one_sentence() -> None:
    x = np.random.default_rng(0).normal(size=(10, 3))
    with pytest.raises(CallError, match="at least 4"):
        kernel_distance(np.eye(3), np.eye(3))
    with pytest.raises(CallError, match="degree"):
        kernel_distance(x, x, degree=0)
    with pytest.raises(CallError, match="did you mean 'clean-fid'"):
        kernel_distance(x, x, compat="cleanfid")
    with pytest.raises(CallError, match="at least 2 of"):
        kernel_distance(x, x, subsets=1)
    with pytest.raises(CallError, match="permutations"):
        kernel_test(x, x, permutations=0)
