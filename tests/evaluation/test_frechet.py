from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation import frechet_distance

RNG = np.random.default_rng(3)


def by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    a, b = np.cov(x.T), np.cov(y.T)
    cross = scipy.linalg.sqrtm(a @ b)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * cross.real))


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 8), (90, 400, 32), (1000, 1000, 48)])
def test_equals_scipys_matrix_root(n: int, m: int, d: int) -> None:
    x = RNG.normal(size=(n, d)) @ RNG.normal(size=(d, d))
    y = RNG.normal(size=(m, d)) @ RNG.normal(size=(d, d)) + 0.5
    assert frechet_distance(x, y).value == pytest.approx(by_scipy(x, y), rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(20, 100), (500, 30), (31, 30), (30, 30)])
def test_equal_covariances_leave_the_squared_shift(n: int, d: int) -> None:
    x = RNG.normal(size=(n, d)) * RNG.uniform(0.1, 10, d)
    shift = RNG.normal(size=d)
    value = frechet_distance(x, x + shift).value
    assert value == pytest.approx(float(shift @ shift), abs=1e-9 * (1 + n * d))


@pytest.mark.parametrize(("n", "d"), [(20, 200), (500, 30)])
def test_the_distance_to_itself_is_zero(n: int, d: int) -> None:
    x = RNG.normal(size=(n, d)) * 7
    assert frechet_distance(x, x[::-1].copy()).value < 1e-9


def test_diagonal_covariances_have_a_closed_form() -> None:
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T  # covariance 8/7·I, mean 0
    a, b = np.array([1.0, 2.0, 5.0]), np.array([3.0, 0.5, 5.0])
    expected = 8 / 7 * float(((a - b) ** 2).sum())
    assert frechet_distance(signs * a, signs * b).value == pytest.approx(expected, rel=1e-12)


def test_padding_and_turning_the_space_changes_nothing() -> None:
    """Fewer samples than features (singular values) against the same sets in their own space (Cholesky)."""
    x, y = RNG.normal(size=(60, 10)), RNG.normal(size=(80, 10)) * 2 + 1
    turn = np.linalg.qr(RNG.normal(size=(300, 300)))[0][:10]
    assert frechet_distance(x @ turn, y @ turn).value == pytest.approx(
        frechet_distance(x, y).value, rel=1e-10
    )


def test_a_dead_feature_is_harmless() -> None:
    x, y = RNG.normal(size=(100, 6)), RNG.normal(size=(100, 6)) + 0.3
    plain = frechet_distance(x, y).value
    x0, y0 = (np.concatenate([v, np.full((100, 2), 4.0)], 1) for v in (x, y))
    assert frechet_distance(x0, y0).value == pytest.approx(plain, rel=1e-10)


@pytest.mark.slow
def test_the_jackknife_knows_the_spread() -> None:
    rng = np.random.default_rng(0)
    values, widths = [], []
    for _ in range(80):
        r = frechet_distance(rng.normal(size=(200, 3)), rng.normal(size=(200, 3)) + 0.5, groups=20)
        values.append(r.value)
        widths.append((r.interval[1] - r.value) / 1.96)
    assert 0.75 < np.mean(widths) / np.std(values) < 1.35


def test_torch_and_numpy_agree_and_the_signature_says_what_was_done() -> None:
    x, y = RNG.normal(size=(50, 4)), RNG.normal(size=(60, 4))
    a, b = frechet_distance(x, y), frechet_distance(torch.from_numpy(x), torch.from_numpy(y))
    assert a.value == b.value
    assert a.n == (50, 60)
    assert "ddof:1" in a.signature


def test_bad_input_gets_one_sentence() -> None:
    x = RNG.normal(size=(10, 4))
    broken = x.copy()
    broken[3, 1] = np.nan
    for real, generated in [(x[:1], x), (x, x[:, :3]), (x, broken), (x[0], x)]:
        with pytest.raises(CallError):
            frechet_distance(real, generated)
    with pytest.raises(CallError, match="groups"):
        frechet_distance(x, x, groups=9)


@pytest.mark.parametrize(("n", "d"), [(90, 12), (60, 30)])
def test_equals_torchmetrics(n: int, d: int) -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    x = torch.from_numpy(RNG.normal(size=(n, d)) @ RNG.normal(size=(d, d)))
    y = torch.from_numpy(RNG.normal(size=(n + 5, d)) + 0.4)
    theirs = float(fid._compute_fid(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()))
    assert frechet_distance(x, y).value == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("n", "d", "groups"), [(60, 4, 6), (60, 4, 30), (20, 30, 5), (31, 30, 4)])
def test_the_jackknife_from_merged_moments_equals_leaving_rows_out(n: int, d: int, groups: int) -> None:
    x, y = RNG.normal(size=(n, d)), RNG.normal(size=(n + 3, d)) + 0.5
    found = frechet_distance(x, y, groups=groups)
    variance = 0.0
    for left, side in ((x, 0), (y, 1)):
        values = []
        for g in range(groups):
            less = left[np.arange(len(left)) % groups != g]
            values.append(frechet_distance(*((less, y) if side == 0 else (x, less))).value)
        variance += (groups - 1) * np.var(values)
    assert found.interval[1] - found.value == pytest.approx(1.959963984540054 * np.sqrt(variance), rel=1e-6)
