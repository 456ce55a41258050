from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.evaluation.metrics.moments import (
    Moments,
    Transport,
    _congruent,
    _squared,
    frechet_from_moments,
    merged,
    transport,
)

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("cuts", [[], [1], [1, 2, 3, 90], [50, 50, 120]])
def test_any_cut_of_the_stream_gives_numpys_moments(cuts: list[int]) -> None:
    x = RNG.normal(size=(130, 6)) * 3 + 1
    moments = Moments(6)
    for part in np.split(x, cuts):
        if len(part):
            moments.add(part)
    assert moments.n == 130
    np.testing.assert_allclose(moments.mean.numpy(), x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance().numpy(), np.cov(x.T), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(moments.covariance(0).numpy(), np.cov(x.T, ddof=0), rtol=1e-12, atol=1e-13)


def test_a_large_mean_costs_no_digits() -> None:
    """Σx² − n·mean² would lose all sixteen of them, a mean rounded to 2⁻²³ seven."""
    x = RNG.integers(-8, 8, size=(200, 3)).astype(np.float64)
    far, half = Moments(3), Moments(3)
    for part in np.split(x + 2.0**30, 20):
        far.add(part)
    half.add(x[::2] + 2.0**30).merge(Moments(3).add(x[1::2] + 2.0**30))
    for moments in (far, half):
        np.testing.assert_allclose(moments.covariance().numpy(), np.cov(x.T), rtol=1e-12, atol=1e-13)
    shift = far.minus(Moments(3).add(x + 2.0**30 + 1.0))
    np.testing.assert_allclose(shift.numpy(), -1.0, rtol=1e-12)


def test_merging_equals_seeing_all_and_leaves_the_other_alone() -> None:
    x = RNG.normal(size=(70, 4))
    parts = [Moments.of(torch.from_numpy(v)) for v in (x[:10], x[10:11], x[11:])]
    before = parts[1].mean.clone()
    whole = merged(parts)
    np.testing.assert_allclose(whole.covariance().numpy(), np.cov(x.T), rtol=1e-12, atol=1e-14)
    assert parts[0].n == 10
    assert torch.equal(parts[1].mean, before)
    assert whole.merge(Moments(4)).n == 70  # of nothing


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 10), (40, 60, 30)])
def test_the_distance_from_moments_equals_the_one_from_features(n: int, m: int, d: int) -> None:
    x = RNG.normal(size=(n, d)) @ RNG.normal(size=(d, d))
    y = RNG.normal(size=(m, d)) + 0.3
    found = frechet_from_moments(Moments(d).add(x), Moments(d).add(y))
    assert found == pytest.approx(frechet_distance(x, y).value, rel=1e-9)


def test_the_short_cuts_equal_the_products() -> None:
    x = torch.from_numpy(RNG.normal(size=(60, 7)))
    square = _squared(x)
    torch.testing.assert_close(square, x.T @ x, rtol=1e-13, atol=1e-13)
    assert torch.equal(square, square.T), "a half is mirrored"
    a, b = square, _squared(torch.from_numpy(RNG.normal(size=(60, 7))))
    for lower in (torch.linalg.cholesky(a), torch.linalg.cholesky(a).contiguous()):
        kept = b.clone()
        found = _congruent(b, lower)
        torch.testing.assert_close(found.tril(), (lower.T @ b @ lower).tril(), rtol=1e-12, atol=1e-12)
        assert torch.equal(b, kept)


def test_dead_and_doubled_features_cost_no_more_than_promised() -> None:
    x, y = RNG.normal(size=(100, 6)), RNG.normal(size=(100, 6)) + 0.3
    x, y = (np.concatenate([v, v[:, :2], np.full((100, 2), 4.0)], 1) for v in (x, y))
    a, b = Moments(10).add(x), Moments(10).add(y)
    exact = frechet_distance(x, y).value
    traces = float(a.covariance().trace() + b.covariance().trace())
    assert frechet_from_moments(a, b) == pytest.approx(exact, abs=1e-6 * traces)
    assert transport(a, b).distance == pytest.approx(exact, abs=1e-6 * traces)
    assert frechet_from_moments(a, a) < 1e-9
    assert transport(a, a).distance < 1e-9


@pytest.mark.parametrize("dead", [0, 2])
def test_the_maps_carry_one_covariance_to_the_other(dead: int) -> None:
    x, y = RNG.normal(size=(80, 5)) @ RNG.normal(size=(5, 5)), RNG.normal(size=(90, 5)) * [1, 2, 3, 4, 5]
    x, y = (np.concatenate([v, np.zeros((len(v), dead))], 1) for v in (x, y))
    a, b = Moments(5 + dead).add(x), Moments(5 + dead).add(y)
    map_ = transport(a, b)
    torch.testing.assert_close(map_.forth @ a.covariance() @ map_.forth, b.covariance())
    torch.testing.assert_close(map_.back @ b.covariance() @ map_.back, a.covariance())
    torch.testing.assert_close(map_.forth, map_.forth.T)


def test_the_influence_is_the_derivative_by_a_samples_weight() -> None:
    """Repeat one sample ε times more: the distance moves by ε/n times its influence."""
    x, y = (torch.from_numpy(RNG.normal(size=(40, 3)) + s) for s in (0.0, 0.7))
    weight = torch.ones(40, dtype=torch.float64)

    def weighted(w: torch.Tensor) -> float:
        moments = Moments(3)
        moments._offset = (w[:, None] * x).sum(0) / w.sum()
        centred = x - moments.mean
        moments.scatter = centred.T @ (w[:, None] * centred) / w.sum()
        moments.n = 1
        return frechet_from_moments(moments, other, ddof=0)

    other = Moments.of(y)
    own = Moments.of(x)
    found = Transport.influence(x, own, other, transport(own, other, ddof=0).forth)
    for i in (0, 7, 31):
        step = torch.zeros(40, dtype=torch.float64)
        step[i] = 1e-5
        slope = (weighted(weight + step) - weighted(weight - step)) / 2e-5
        assert 40 * slope == pytest.approx(float(found[i]), rel=1e-6)


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(CallError, match="of 3 features"):
        Moments(3).add(np.ones((2, 4)))
    with pytest.raises(CallError, match="do not merge"):
        Moments(3).merge(Moments(2))
    with pytest.raises(CallError, match="more than 1"):
        Moments(2).add(np.ones((1, 2))).covariance()
    with pytest.raises(CallError, match="at least one"):
        Moments(0)
    with pytest.raises(CallError, match="have no distance"):
        frechet_from_moments(Moments(2).add(np.eye(2)), Moments(3).add(np.eye(3)))
