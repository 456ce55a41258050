from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.mind import mind

RNG = np.random.default_rng(2)


def cost(a: np.ndarray, b: np.ndarray) -> float:
    """W₂² on the line: repeat each sample until the sets are of one size, sort, subtract."""
    both = math.lcm(len(a), len(b))
    a, b = (np.sort(np.repeat(v, both // len(v))) for v in (a, b))
    return float(((a - b) ** 2).mean())


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 45), (17, 12), (2, 50), (100, 7)])
def test_on_the_line_it_is_thrice_the_transport_cost(n: int, m: int) -> None:
    a, b = RNG.normal(size=(n, 1)), RNG.normal(size=(m, 1)) * 2 + 1
    assert mind(a, b).value == pytest.approx(3 * cost(a[:, 0], b[:, 0]), rel=1e-12)
    assert mind(b, a).value == pytest.approx(mind(a, b).value, rel=1e-12)


@pytest.mark.parametrize("directions", [50, 5])
def test_equals_a_loop_over_the_directions(directions: int) -> None:
    """The quadratic part of a basis adds up: checked against the sum over the same directions."""
    from niwaki.evaluation.metrics.mind import _orthogonal

    x, y = RNG.normal(size=(40, 8)), RNG.normal(size=(25, 8)) * 1.5
    u = _orthogonal(directions, 8, torch.Generator().manual_seed(3)).numpy()
    assert len(u) == (56 if directions == 50 else 5)
    np.testing.assert_allclose(u[:5] @ u[:5].T, np.eye(5), atol=1e-14)
    expected = 3 * 8 * np.mean([cost(x @ v, y @ v) for v in u])
    assert mind(x, y, directions=directions, seed=3).value == pytest.approx(expected, rel=1e-12)


def test_a_shift_costs_exactly_three_times_its_squared_length() -> None:
    x = RNG.normal(size=(60, 7)) * RNG.uniform(0.1, 5, 7)
    shift = RNG.normal(size=7)
    assert mind(x, x + shift).value == pytest.approx(3 * shift @ shift, rel=1e-12)
    assert mind(x, x + 0.4).value == pytest.approx(3 * 7 * 0.4**2, rel=1e-12)  # 3dμ²
    assert mind(x, RNG.permutation(x)).value == 0


def test_a_larger_spread_has_a_closed_form() -> None:
    """W₂ of N(0, 1) and N(0, s²) is |1 − s| along every direction."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 3))
    assert mind(x, 1.5 * x, directions=9).value == pytest.approx(3 * 3 * 0.25, rel=0.05)


def test_directions_are_uniform() -> None:
    from niwaki.evaluation.metrics.mind import _orthogonal

    u = _orthogonal(30_000, 3, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose((u**2).mean(0), 1 / 3, atol=0.01)
    np.testing.assert_allclose((u**4).mean(0), 1 / 5, atol=0.01)
    np.testing.assert_allclose(u.mean(0), 0, atol=0.02)


def test_the_potential_is_the_derivative_by_a_samples_weight() -> None:
    """Repeat every sample a thousand times and one of them once more."""
    a, b = RNG.normal(size=(13, 1)), RNG.normal(size=(9, 1)) + 1
    many = np.repeat(b, 1000, axis=0)
    found = mind(a, b)
    for j in (0, 4, 8):
        more = mind(a, np.concatenate([many, b[j : j + 1]])).value
        assert (more - found.value) * 9001 == pytest.approx(found.per_sample[j], rel=1e-3, abs=1e-3)


def test_the_interval_knows_the_spread_over_samples_and_directions() -> None:
    rng = np.random.default_rng(1)
    values, errors = [], []
    for seed in range(150):
        x, y = rng.normal(size=(80, 4)), rng.normal(size=(100, 4)) * 1.5 + 0.5
        found = mind(x, y, directions=40, seed=seed)
        values.append(found.value)
        errors.append((found.interval[1] - found.value) / 1.959963984540054)
    assert 0.85 < np.sqrt(np.mean(np.square(errors))) / np.std(values) < 1.2
    x, y = rng.normal(size=(4000, 4)), rng.normal(size=(4000, 4)) * [3, 1, 1, 1]
    by_directions = np.std([mind(x, y, directions=40, seed=s).value for s in range(30)])
    error = (mind(x, y, directions=40).interval[1] - mind(x, y, directions=40).value) / 1.96
    assert error > 0.5 * by_directions


def test_the_scores_point_at_the_odd_samples() -> None:
    y = RNG.normal(size=(100, 4))
    y[:8] += 5
    found = mind(RNG.normal(size=(90, 4)), y).per_sample
    assert set(np.argsort(-found)[:8]) == set(range(8))
    assert found.mean() == pytest.approx(0, abs=1e-12)


def test_torch_fidelitys_formula_and_draws() -> None:
    x, y = (torch.from_numpy(RNG.normal(size=(n, 6)) + at).float() for n, at in ((50, 0.0), (35, 0.3)))
    generator = torch.Generator().manual_seed(2020)
    part = x[torch.randperm(50, generator=generator)[:35]]
    u = torch.randn(64, 6, generator=generator)
    u /= u.norm(dim=1, keepdim=True)
    difference = (part @ u.T).sort(0).values - (y @ u.T).sort(0).values
    theirs = 18 * float(difference.square().mean())
    found = mind(x, y, directions=64, seed=2020, compat="torch-fidelity")
    assert found.value == pytest.approx(theirs, rel=1e-5)  # theirs is float32
    assert found.per_sample is not None
    assert mind(y, x, directions=64, compat="torch-fidelity").per_sample is None


def test_bad_input_gets_one_sentence() -> None:
    x = RNG.normal(size=(10, 3))
    assert mind(np.ones((5, 2)), np.ones((4, 2))).value == 0
    with pytest.raises(CallError, match="directions"):
        mind(x, x, directions=1)
    with pytest.raises(CallError, match="at least 2 generated"):
        mind(x, x[:1])
    with pytest.raises(CallError, match="one extractor"):
        mind(x, x[:, :2])
    with pytest.raises(CallError, match="did you mean 'torch-fidelity'"):
        mind(x, x, compat="torchfidelity")
