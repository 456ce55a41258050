from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.alpha_beta import alpha_beta


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(2))


def sets(n: int, m: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 1.2 * rng.normal(size=(m, d)) + 0.2


def modes(kept: int, n: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Ten modes equally far from the middle, of which the generator makes the first `kept`."""
    rng = np.random.default_rng(0)
    centres = 30 * np.concatenate([np.eye(5), -np.eye(5)])[[0, 5, 1, 6, 2, 7, 3, 8, 4, 9]]
    real = centres[np.arange(n) % 10] + rng.normal(size=(n, 5))
    return real, centres[np.arange(n) % kept] + rng.normal(size=(n, 5))


def test_equals_the_definitions_written_out() -> None:
    x, y = sets(61, 45, 4)
    k, levels = 3, 12
    found = alpha_beta(x, y, levels=levels, k=k, block=16)
    of_real = [np.linalg.norm(x[i] - np.delete(x, i, axis=0).mean(0)) for i in range(len(x))]
    of_generated = np.linalg.norm(y - x.mean(0), axis=1)
    between, own = distances(x, y), np.sort(distances(x, x), axis=1)
    depth = np.linalg.norm(x - y.mean(0), axis=1)
    ends = [np.linalg.norm(y[i] - np.delete(y, i, axis=0).mean(0)) for i in range(len(y))]
    precision, recall = [], []
    for level in np.linspace(0, 1, levels):
        precision.append((of_generated <= np.quantile(of_real, level)).mean())
        covered = between.min(1) < own[:, k]
        recall.append((covered & (depth <= np.quantile(ends, level))).mean())
    np.testing.assert_allclose(found.precision_curve, precision, atol=1e-12)
    np.testing.assert_allclose(found.recall_curve, recall, atol=1e-12)
    for curve, result in ((precision, found.precision), (recall, found.recall)):
        gap = np.abs(np.array(curve) - found.levels)
        area = sum((gap[i] + gap[i + 1]) / 2 / (levels - 1) for i in range(levels - 1))
        assert result.value == pytest.approx(1 - 2 * area, abs=1e-12)
        np.testing.assert_allclose((result.per_sample[:, None] <= found.levels).mean(0), curve)


def test_equals_the_authors_formula() -> None:
    x, y = sets(60, 70, 4)
    x[5] = x[6]  # a ball of radius 0 with a generated sample on it: ≤ and < differ
    y[0] = x[5]
    grid = np.linspace(0, 1, 30)
    radii = np.quantile(np.linalg.norm(x - x.mean(0), axis=1), grid)
    precision = np.array([(np.linalg.norm(y - x.mean(0), axis=1) <= r).mean() for r in radii])
    between, own = distances(x, y), np.sort(distances(x, x), axis=1)[:, 1]
    closest = np.linalg.norm(y[between.argmin(1)] - y.mean(0), axis=1)
    recall = np.array([((between.min(1) <= own) & (closest <= r)).mean() for r in np.quantile(closest, grid)])
    found = alpha_beta(x, y, k=1, compat="alaa")
    np.testing.assert_allclose(found.precision_curve, precision, atol=1e-6)
    np.testing.assert_allclose(found.recall_curve, recall, atol=1e-6)
    assert found.precision.value == pytest.approx(1 - 2 * np.abs(grid - precision).sum() / 29, abs=1e-6)
    assert found.recall.value == pytest.approx(1 - 2 * np.abs(grid - recall).sum() / 29, abs=1e-6)
    assert np.isfinite(found.recall.per_sample[5:7]).all()
    assert np.isinf(alpha_beta(x, y, k=1).recall.per_sample[5:7]).all()


@pytest.mark.parametrize("d", [2, 64])
def test_a_perfect_generator_scores_the_floors(d: int) -> None:
    precision, recall = [], []
    for seed in range(15):
        x, y = np.random.default_rng(seed).normal(size=(2, 300, d))
        found = alpha_beta(x, y)
        precision.append(found.precision.value - found.precision.floor)
        recall.append(found.recall.value - found.recall.floor)
    assert abs(np.mean(precision)) < 0.02
    assert abs(np.mean(recall)) < 0.03


def test_in_many_dimensions_new_real_samples_are_not_outside() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 80, 2000))
    found = alpha_beta(x, y)
    assert found.precision.value > found.precision.floor - 0.08
    assert alpha_beta(x, y, compat="alaa").precision.value < 0.7  # what it guards against


@pytest.mark.parametrize("kept", [10, 8, 5, 2, 1])
def test_of_ten_modes_recall_tells_the_share_that_is_kept(kept: int) -> None:
    found = alpha_beta(*modes(kept))
    assert found.recall_curve[-1] == pytest.approx(kept / 10 * found.recall.floor, abs=0.03)
    assert found.recall.value == pytest.approx(kept / 10, abs=0.05)
    assert found.precision.value > 0.92


def test_the_authors_recall_does_not_fall_with_every_lost_mode() -> None:
    """Why ours asks the real samples themselves."""
    two, one = (alpha_beta(*modes(kept), compat="alaa", k=5).recall.value for kept in (2, 1))
    assert two < one


@pytest.mark.parametrize("bad", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_precision_falls_in_proportion_to_the_bad_samples(bad: float) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 800, 5))
    y[: int(800 * bad)] += 100
    assert alpha_beta(x, y).precision.value == pytest.approx(1 - bad, abs=0.05)


def test_one_real_outlier_raises_nothing() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 2))
    off = rng.normal(size=(300, 2)) + 500
    before = alpha_beta(x, off)
    x[0] = 1000
    after = alpha_beta(x, off)
    assert after.precision.value < before.precision.value + 0.04  # in at α = 1 alone
    assert after.recall.value < before.recall.value + 0.01


def test_the_interval_covers_the_value_of_many_samples() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(150, 2))
    true = alpha_beta(x, 0.7 * rng.normal(size=(20_000, 2)), k=1).precision.value
    hits = 0
    for _ in range(100):
        low, high = alpha_beta(x, 0.7 * rng.normal(size=(150, 2)), k=1).precision.interval
        hits += low <= true <= high
    assert 89 <= hits <= 99


def test_takes_torch_and_does_not_mind_scale_or_blocks() -> None:
    x, y = sets(90, 80, 6)
    first = alpha_beta(x, y, block=16)
    second = alpha_beta(torch.from_numpy(1e3 * x + 50), torch.from_numpy(1e3 * y + 50))
    np.testing.assert_allclose(first.precision_curve, second.precision_curve)
    np.testing.assert_allclose(first.recall_curve, second.recall_curve)


def test_bad_input_gets_one_sentence() -> None:
    x, y = sets(20, 20, 3)
    with pytest.raises(CallError, match="too few for 5 neighbours"):
        alpha_beta(x[:5], y)
    with pytest.raises(CallError, match="did you mean 'alaa'"):
        alpha_beta(x, y, compat="ala")
    with pytest.raises(CallError, match="copies of itself"):
        alpha_beta(np.ones((20, 3)), y)
    with pytest.raises(CallError, match="levels must"):
        alpha_beta(x, y, levels=1)
    with pytest.raises(CallError, match="NaN"):
        alpha_beta(x, np.where(y > 1, np.nan, y))
    with pytest.raises(CallError, match="one extractor"):
        alpha_beta(x, y[:, :2])
