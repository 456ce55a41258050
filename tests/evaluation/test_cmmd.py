from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.cmmd import cmmd

RNG = np.random.default_rng(1)


def gram(x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    return np.exp(-((x[:, None] - y[None]) ** 2).sum(2) / (2 * sigma**2))


def v_statistic(x: np.ndarray, y: np.ndarray, sigma: float = 10.0) -> float:
    """The reference: means of whole matrices."""
    return 1000 * (gram(x, x, sigma).mean() + gram(y, y, sigma).mean() - 2 * gram(x, y, sigma).mean())


def u_statistic(x: np.ndarray, y: np.ndarray, sigma: float = 10.0) -> float:
    n, m = len(x), len(y)
    xx = (gram(x, x, sigma).sum() - n) / (n * (n - 1))
    yy = (gram(y, y, sigma).sum() - m) / (m * (m - 1))
    return 1000 * (xx + yy - 2 * gram(x, y, sigma).mean())


@pytest.mark.parametrize("sigma", [0.5, 10.0])
@pytest.mark.parametrize("block", [5, 2048])
def test_equals_the_slow_forms(sigma: float, block: int) -> None:
    x, y = RNG.normal(size=(31, 6)), RNG.normal(size=(24, 6)) + 0.5
    ours = cmmd(x, y, sigma=sigma, block=block)
    theirs = cmmd(x, y, sigma=sigma, block=block, compat="google")
    assert ours.value == pytest.approx(u_statistic(x, y, sigma), rel=1e-9)
    assert theirs.value == pytest.approx(v_statistic(x, y, sigma), rel=1e-9)
    assert cmmd(x, y, sigma=sigma, scale=1.0).value == pytest.approx(ours.value / 1000, rel=1e-9)


def test_unbiased_where_the_reference_is_not() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        x, y = rng.normal(size=(30, 5)), rng.normal(size=(40, 5))
        ours, theirs = cmmd(x, y), cmmd(x, y, compat="google")
        low, high = ours.interval
        found.append((ours.value, low <= 0 <= high, theirs.value, theirs.floor))
    value, covered, biased, floor = np.array(found).T
    error = value.std() / np.sqrt(len(value))
    assert abs(value.mean()) < 4 * error
    assert covered.mean() > 0.93
    assert abs(biased.mean() - floor.mean()) < 4 * error
    assert biased.mean() > 20 * error
    assert theirs.interval is None


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_interval_covers_the_truth(count: int) -> None:
    """Directions on the circle, x uniform on a quarter of it, y on another: the truth by quadrature."""
    angle = (np.arange(1200) + 0.5) / 1200 * np.pi / 2
    a, b = (np.stack([np.cos(t), np.sin(t)], 1) for t in (angle, angle + 0.5))
    truth = v_statistic(a, b, 1.0)
    rng, hits, values = np.random.default_rng(2), 0, []
    for _ in range(count):
        t, s = rng.uniform(0, np.pi / 2, 60), rng.uniform(0, np.pi / 2, 70) + 0.5
        found = cmmd(*(np.stack([np.cos(v), np.sin(v)], 1) * 3 for v in (t, s)), sigma=1.0)
        low, high = found.interval
        hits += low <= truth <= high
        values.append(found.value)
    assert abs(np.mean(values) - truth) < 4 * np.std(values) / np.sqrt(count)
    assert (0.93 if count == 1000 else 0.91) <= hits / count <= 0.985


def test_length_does_not_matter_and_identical_sets_are_at_zero() -> None:
    x, y = RNG.normal(size=(20, 4)), RNG.normal(size=(25, 4))
    stretched = x * RNG.uniform(1e-200, 1e200, (20, 1))
    assert cmmd(stretched, y).value == pytest.approx(cmmd(x, y).value, rel=1e-9)
    assert cmmd(x, x, compat="google").value == pytest.approx(0, abs=1e-9)
    assert cmmd(torch.from_numpy(x), torch.from_numpy(y)).value == cmmd(x, y).value


def test_the_witness_points_at_the_odd_samples() -> None:
    y = RNG.normal(size=(60, 3)) + 4
    y[:5] *= -1
    witness = cmmd(RNG.normal(size=(80, 3)) + 4, y, sigma=1.0).per_sample
    assert set(np.argsort(-witness)[:5]) == set(range(5))


def test_bad_input_gets_one_sentence() -> None:
    x = RNG.normal(size=(10, 3))
    empty = x.copy()
    empty[4] = 0
    with pytest.raises(CallError, match=r"generated features are all zeros .* row 4"):
        cmmd(x, empty)
    with pytest.raises(CallError, match="sigma"):
        cmmd(x, x, sigma=0)
    with pytest.raises(CallError, match="did you mean 'google'"):
        cmmd(x, x, compat="gogle")
    with pytest.raises(CallError, match="at least 4"):
        cmmd(x[:3], x)
