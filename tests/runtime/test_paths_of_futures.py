"""Heads and the sampler of paths: plain data, inverses, and a correlation that leaves every step alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.heads import Gaussian, Mixture, Quantiles, head_from_json
from niwaki_runtime.samplers import Noise, NumpyBackend, Paths, State, Steps, sampler_from_json
from niwaki_runtime.samplers.paths import along


class Says:
    """A graph that says the same of everything."""

    state: tuple[State, ...] = ()

    def __init__(self, parameters: Any, shape: tuple[int, ...]) -> None:
        self.parameters, self.shape = np.asarray(parameters, np.float32), shape

    def __call__(self, past: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.parameters, (len(past), *self.shape, len(self.parameters)))


def paths(sampler: Paths, parameters: Any, n: int, seed: int = 0) -> np.ndarray:
    noise = Noise(NumpyBackend(), seed, 0, n)
    return sampler({"forecaster": Says(parameters, sampler.shape)}, noise, {"past": np.zeros((n, 1))})


def test_they_round_trip_through_json() -> None:
    for head in (Quantiles((0.1, 0.5, 0.9)), Mixture(2), Gaussian()):
        assert head_from_json(json.loads(json.dumps(head.to_json()))) == head
        sampler = Paths((2, 3), head=head, conditions=("past",), correlation=0.5)
        assert sampler_from_json(json.loads(json.dumps(sampler.to_json()))) == sampler
        assert "factor" not in sampler.to_json(), "older runtimes know none"
        steps = Steps((2, 3), head=head, factor=((1.0, 0.0), (0.6, 0.8)), low=-1.0)
        assert sampler_from_json(json.loads(json.dumps(steps.to_json()))) == steps
    with pytest.raises(CallError, match="the factor of 2 channels"):
        Paths((2, 3), factor=((1.0,),))
    with pytest.raises(CallError, match="no head 'mixtures'; did you mean 'mixture'"):
        head_from_json({"kind": "mixtures"})
    with pytest.raises(CallError, match="no field 'component'"):
        head_from_json({"kind": "mixture", "component": 2})
    with pytest.raises(CallError, match="must rise within"):
        Quantiles((0.5, 0.5))
    with pytest.raises(CallError, match=r"must lie in \[0, 1\)"):
        Paths(correlation=1.0)


def test_quantiles_pass_through_their_levels_and_rise() -> None:
    head = Quantiles((0.1, 0.5, 0.9))
    q = np.array([-2.0, 0.0, 3.0])
    at = np.array([0.1, 0.5, 0.9, 0.3, 0.7])
    np.testing.assert_allclose(head.quantile(np.tile(q, (5, 1)), at), [-2.0, 0.0, 3.0, -1.0, 1.5])
    u = np.linspace(1e-6, 1 - 1e-6, 2001)
    assert (np.diff(head.quantile(np.tile(q, (2001, 1)), u)) > 0).all()


def test_tails_of_quantiles_are_exponential_and_join_smoothly() -> None:
    """Below the first level q₁ + τ₁ q′ ln(u/τ₁): each factor of u costs the same; the slope does not jump."""
    head, q = Quantiles((0.1, 0.5, 0.9)), np.array([[-2.0, 0.0, 3.0]])

    def at(u: float) -> float:
        return float(head.quantile(q, np.array([u]))[0])

    assert at(0.01) - at(0.001) == pytest.approx(at(0.001) - at(0.0001))
    assert at(0.99) - at(0.999) == pytest.approx(at(0.999) - at(0.9999))
    for edge in (0.1, 0.9):
        left, right = (at(edge) - at(edge - 1e-6)), (at(edge + 1e-6) - at(edge))
        assert left == pytest.approx(right, rel=1e-3)


def test_one_logistic_is_its_own_inverse_and_a_mixture_lies_between() -> None:
    u = np.array([0.01, 0.3, 0.5, 0.99])
    one = np.tile([0.0, 1.5, np.log(2.0)], (4, 1))
    np.testing.assert_allclose(Mixture(1).quantile(one, u), 1.5 + 2.0 * np.log(u / (1 - u)), atol=1e-12)
    two = np.tile([0.0, 0.0, -5.0, 5.0, 0.0, 0.0], (4, 1))
    x = Mixture(2).quantile(two, u)
    np.testing.assert_allclose(0.5 / (1 + np.exp(-(x + 5))) + 0.5 / (1 + np.exp(-(x - 5))), u, atol=1e-9)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_each_step_has_its_own_distribution_and_neighbours_agree(correlation: float) -> None:
    sampler = Paths((1, 3), head=Mixture(1), conditions=("past",), correlation=correlation)
    x = paths(sampler, [0.0, 2.0, 0.0], 20_000)[:, 0]
    deviation = np.pi / np.sqrt(3)  # of the standard logistic distribution
    assert np.abs(x.mean(0) - 2.0).max() < 5 * deviation / np.sqrt(20_000)
    assert np.abs(x.std(0) / deviation - 1).max() < 0.03
    found = np.corrcoef(x.T)
    assert found[0, 1] == pytest.approx(correlation, abs=0.03)
    assert found[0, 2] == pytest.approx(correlation**2, abs=0.03)


def test_the_path_of_normals_is_stationary() -> None:
    z = along(np.random.default_rng(0).normal(size=(50_000, 6)), 0.9)
    assert np.abs(z.std(0) - 1).max() < 0.02
    assert z[:, 4:].T @ z[:, 4:] / 50_000 == pytest.approx(np.array([[1.0, 0.9], [0.9, 1.0]]), abs=0.02)


def test_path_i_is_the_same_at_any_batch_and_temperature_zero_is_the_median() -> None:
    sampler = Paths((2, 5), head=Quantiles((0.1, 0.5, 0.9)), conditions=("past",), correlation=0.5)
    whole, part = (paths(sampler, [-1.0, 0.25, 1.0], n, seed=3) for n in (6, 2))
    np.testing.assert_array_equal(whole[:2], part)
    assert not np.allclose(whole[0], whole[1])
    np.testing.assert_allclose(paths(sampler.override(temperature=0.0), [-1.0, 0.25, 1.0], 2), 0.25)


def test_the_quantiles_of_a_normal_distribution() -> None:
    u = np.array([0.5, 0.841344746068543, 0.022750131948179])
    found = Gaussian().quantile(np.tile([2.0, np.log(3.0)], (3, 1)), u)
    np.testing.assert_allclose(found, [2.0, 5.0, -4.0], atol=1e-6)


def test_channels_have_the_correlation_of_their_factor() -> None:
    factor = ((1.0, 0.0), (-0.6, 0.8))
    for correlation in (0.0, 0.7):
        sampler = Paths((2, 2), head=Gaussian(), conditions=("past",), correlation=correlation, factor=factor)
        x = paths(sampler, [0.0, 0.0], 20_000)
        assert np.corrcoef(x[:, 0, 1], x[:, 1, 1])[0, 1] == pytest.approx(-0.6, abs=0.03)
        assert np.corrcoef(x[:, 0, 0], x[:, 0, 1])[0, 1] == pytest.approx(correlation, abs=0.03)
        assert np.abs(x.std(0) - 1).max() < 0.03


class Follows:
    """A graph that says N(the value before · φ, 1), and counts its steps in its state."""

    state: tuple[State, ...] = (State("count", "count_new", (1, 1)),)

    def __init__(self, phi: float) -> None:
        self.phi, self.places = phi, []

    def __call__(self, value: np.ndarray, place: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, ...]:
        self.places.append((int(place[0]), float(count[0, 0])))
        said = np.stack([self.phi * value, np.zeros_like(value)], -1)
        return said.astype(np.float32), count + 1


def test_steps_follow_each_other_and_do_not_depend_on_the_batch() -> None:
    sampler, graph = Steps((1, 4), head=Gaussian()), Follows(0.5)

    def made(n: int, start: int = 0, **changes: Any) -> np.ndarray:
        noise = Noise(NumpyBackend(), 3, start, n)
        return sampler.override(**changes)({"step": graph}, noise, {})

    whole = made(5)
    assert graph.places == [(t, float(t)) for t in range(4)]
    z = Noise(NumpyBackend(), 3, 0, 5).normal((1, 4))
    wanted = np.zeros((5, 1, 4))
    for t in range(4):
        wanted[..., t] = (0.5 * wanted[..., t - 1] if t else 0.0) + z[..., t]
    np.testing.assert_allclose(whole, wanted, atol=1e-5)
    np.testing.assert_array_equal(made(2, 3), whole[3:])
    np.testing.assert_array_equal(made(5, low=-0.1, high=0.1).clip(-0.1, 0.1), made(5, low=-0.1, high=0.1))
    assert (made(5, temperature=0.0) == 0).all()


def test_only_steps_are_given_what_was_drawn() -> None:
    """Rounding grows there, and parity compares call by call."""
    assert Steps().feeds_back
    assert not Paths().feeds_back
