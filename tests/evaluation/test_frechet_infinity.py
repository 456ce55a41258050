from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.evaluation.metrics.frechet_infinity import frechet_distance_infinity

RNG = np.random.default_rng(8)


@pytest.mark.parametrize(("n", "m", "compat"), [(120, 90, None), (60, 200, None), (120, 90, "chong")])
def test_equals_a_straight_line_through_distances_of_prefixes(n: int, m: int, compat: str | None) -> None:
    x, y = RNG.normal(size=(n, 4)), RNG.normal(size=(m, 4)) * 1.5 + 0.2
    found = frechet_distance_infinity(x, y, points=6, least=30, seed=3, compat=compat)
    x, y = (v[np.random.default_rng(3).permutation(len(v))] for v in (x, y))
    for (a, b), distance in zip(found.sizes, found.distances, strict=True):
        assert distance == pytest.approx(frechet_distance(x[:a], y[:b]).value, rel=1e-9)
    small = found.sizes[:, 1] if compat or m < n else found.sizes[:, 0]
    slope, value = np.polyfit(1 / small, found.distances, 1)
    assert found.value == pytest.approx(value, rel=1e-9)
    assert found.slope == pytest.approx(slope, rel=1e-9)
    assert found.distances[-1] == pytest.approx(frechet_distance(x, y).value, rel=1e-9)
    assert (np.diff(small) > 0).all()


def test_default_prefixes() -> None:
    def sizes(n: int, d: int, **settings: int) -> np.ndarray:
        return frechet_distance_infinity(RNG.normal(size=(n, d)), RNG.normal(size=(n, d)), **settings).sizes

    assert sizes(2000, 2)[[0, -1], 0].tolist() == [200, 2000]  # N/10
    assert len(sizes(2000, 2)) == 15
    assert sizes(400, 40)[0, 0] == 80  # 2d
    assert sizes(60, 40)[0, 0] == 30  # N/2
    assert sizes(400, 4, least=50, points=3)[:, 1].tolist() == [50, 225, 400]


def simulate(shift: float, repeats: int, n: int = 200, d: int = 8, **settings: str) -> tuple[np.ndarray, ...]:
    """Values, standard errors, plain distances; the truth is shift²."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(repeats):
        x, y = rng.normal(size=(n, d)), rng.normal(size=(n, d)) + shift / np.sqrt(d)
        r = frechet_distance_infinity(x, y, points=8, **settings)
        found.append((r.value, (r.interval[1] - r.value) / 1.959963984540054, r.distances[-1]))
    return tuple(np.array(found).T)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_bias_goes(shift: float) -> None:
    value, error, plain = simulate(shift, 100)
    deviation = value.std() / np.sqrt(len(value))
    assert plain.mean() - shift**2 > 0.2  # what it takes away
    assert abs(value.mean() - shift**2) < 4 * deviation
    assert deviation < 0.03
    # Right where the distributions differ, wide where they are equal: never narrow.
    assert 0.85 < np.sqrt((error**2).mean()) / value.std() < 1.6
    assert np.mean(np.abs(value - shift**2) < 1.96 * error) > 0.92


def test_the_bias_of_the_real_set_stays_where_all_of_it_is_kept() -> None:
    value, _, plain = simulate(0.0, 60, compat="chong")
    assert value.mean() == pytest.approx(plain.mean() / 2, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_the_interval_covers_the_truth(shift: float) -> None:
    value, error, _ = simulate(shift, 1000, n=400)
    assert 0.93 < np.mean(np.abs(value - shift**2) < 1.96 * error) < 0.995


def test_a_set_is_at_no_distance_from_itself() -> None:
    x = RNG.normal(size=(90, 30)) * RNG.uniform(0.01, 10, 30)
    found = frechet_distance_infinity(x, x.copy())
    assert abs(found.value) < 1e-9
    assert (found.distances < 1e-9).all()


def test_seed_devices_and_json() -> None:
    x, y = RNG.normal(size=(80, 3)), RNG.normal(size=(50, 3))
    a, b = (
        frechet_distance_infinity(x, y),
        frechet_distance_infinity(torch.from_numpy(x), torch.from_numpy(y)),
    )
    assert a.value == b.value
    assert a == b
    assert frechet_distance_infinity(x, y, seed=1).value != a.value
    assert a.n == (80, 50)
    assert "least:" in a.signature
    assert json.loads(json.dumps(a.to_json()))["distances"] == a.distances.tolist()


def test_a_dead_feature_is_harmless() -> None:
    x, y = RNG.normal(size=(100, 4)), RNG.normal(size=(100, 4)) + 0.3
    plain = frechet_distance_infinity(x, y, least=20)
    x0, y0 = (np.concatenate([v, np.full((100, 2), 4.0)], 1) for v in (x, y))
    dead = frechet_distance_infinity(x0, y0, least=20)
    assert dead.value == pytest.approx(plain.value, abs=1e-6)
    assert dead.interval == pytest.approx(plain.interval, abs=1e-6)


def test_bad_input_gets_one_sentence() -> None:
    x = RNG.normal(size=(40, 4))
    with pytest.raises(CallError, match="more samples than the 50 features"):
        frechet_distance_infinity(RNG.normal(size=(40, 50)), RNG.normal(size=(60, 50)))
    with pytest.raises(CallError, match="did you mean 'chong'"):
        frechet_distance_infinity(x, x, compat="chnog")
    with pytest.raises(CallError, match="3 points"):
        frechet_distance_infinity(x, x, points=2)
    with pytest.raises(CallError, match="first prefix"):
        frechet_distance_infinity(x, x, least=40)
    with pytest.raises(CallError, match="at least 8"):
        frechet_distance_infinity(x[:5], x)
