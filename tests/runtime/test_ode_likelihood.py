"""log p of a diffusion against the exact density of a mixture of Gaussians, whose denoiser is known."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import Karras, LinearPath, Process, VariancePreserving
from niwaki_runtime.samplers import Diffusion, Noise, NumpyBackend, OdeLikelihood, OneShot, sampler_from_json

FLOOR = 0.02
PATHS = [
    (process, prediction)
    for process in (VariancePreserving(), Karras(), LinearPath())
    for prediction in process.predictions
]


class Double(NumpyBackend):
    def asarray(self, array: np.ndarray) -> np.ndarray:
        return array.astype(np.float64) if array.dtype == np.float32 else array


class Mixture:
    """Correlated Gaussians in d dimensions, their densities with noise and their denoiser with its slope."""

    def __init__(self, d: int) -> None:
        rng = np.random.default_rng(3)
        self.log_weight = np.log([0.3, 0.5, 0.2])
        self.mean = rng.uniform(-1, 1, (3, d))
        root = 0.25 * rng.standard_normal((3, d, d))
        self.covariance = root @ root.swapaxes(1, 2) + 0.02 * np.eye(d)

    def log_density(self, x: np.ndarray, a: float, s: float) -> np.ndarray:
        """Of α x₀ + σ ε."""
        d = x.shape[1]
        spread = a * a * self.covariance + s * s * np.eye(d)
        apart = x[:, None] - a * self.mean
        square = np.einsum("nki,kij,nkj->nk", apart, np.linalg.inv(spread), apart)
        log = self.log_weight - 0.5 * (square + np.linalg.slogdet(spread)[1] + d * math.log(2 * math.pi))
        return logsumexp(log, axis=1)

    def denoised(self, x: np.ndarray, v: np.ndarray, a: float, s: float) -> tuple[np.ndarray, np.ndarray]:
        """E[x₀ | x], each component's posterior mean by its responsibility, and how it changes along v:
        Cov[x₀ | x] v α/σ²."""
        precision = np.linalg.inv(a * a * self.covariance + s * s * np.eye(x.shape[1]))
        gain = a * self.covariance @ precision
        apart = x[:, None] - a * self.mean
        square = np.einsum("nki,kij,nkj->nk", apart, precision, apart)
        log = self.log_weight - 0.5 * (square - np.linalg.slogdet(precision)[1])
        share = np.exp(log - logsumexp(log, axis=1, keepdims=True))
        each = self.mean + np.einsum("kij,nkj->nki", gain, apart)
        mean = np.einsum("nk,nki->ni", share, each)
        within = np.einsum("nk,kij,nj->ni", share, self.covariance - a * gain @ self.covariance, v)
        off = each - mean[:, None]
        between = np.einsum("nk,nki,nkj,nj->ni", share, off, off, v)
        return mean, (within + between) * a / s**2


class Derivative:
    """What a network of that prediction would say, and how it changes along v."""

    state = ()

    def __init__(self, mixture: Mixture, process: Process, prediction: str) -> None:
        self.mixture, self.process, self.prediction = mixture, process, prediction
        self.calls = 0

    def __call__(self, x: np.ndarray, t: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        told = float(t[0])
        known = {"karras": math.exp(min(4 * told, 9.0)), "linear": told / 1000}
        a, s = self.process.alpha_sigma(known.get(self.process.kind, told))

        scale = self.process.network_input(1.0, a, s)
        x, v = x / scale, v / scale
        x0, along = self.mixture.denoised(x, v, a, s)
        target = self.process.conversion(self.prediction).target
        return target(x0, (x - a * x0) / s, a, s), target(along, (v - a * along) / s, a, s)


def log_prob(x: np.ndarray, process: Process, prediction: str, seed: int = 0, **options: Any) -> np.ndarray:
    mixture = Mixture(x.shape[1])
    plan = Diffusion(x.shape[1:], process=process, prediction=prediction)
    made = OdeLikelihood(plan, **{"floor": FLOOR, "probes": 0, **options})
    graphs = {"derivative": Derivative(mixture, process, prediction)}
    return made(graphs, Noise(Double(), seed, 0, len(x)), {"x": x})


def points(d: int, n: int = 12) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1.5, 1.5, (n, d))


@pytest.mark.parametrize(("process", "prediction"), PATHS, ids=lambda v: getattr(v, "kind", v))
def test_it_is_the_exact_density(process: Process, prediction: str) -> None:
    x = points(2)
    exact = Mixture(2).log_density(x, 1.0, FLOOR)
    found = log_prob(x, process, prediction, steps=100)
    # Networks are told the time in float32, and Karras's path starts from N(0, σ_max²).
    np.testing.assert_allclose(found, exact, atol=5e-3)


@pytest.mark.parametrize("process", [VariancePreserving(), Karras(), LinearPath()], ids=lambda p: p.kind)
def test_its_error_is_of_second_order(process: Process) -> None:
    x = points(2)
    steps = [8, 16, 32, 64]
    limit = log_prob(x, process, "x0", steps=256)
    errors = [np.abs(log_prob(x, process, "x0", steps=n) - limit).mean() for n in steps]
    assert -np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.5)
    assert errors[2] < 0.05


@pytest.mark.parametrize("process", [VariancePreserving(), Karras(), LinearPath()], ids=lambda p: p.kind)
def test_probabilities_sum_to_one(process: Process) -> None:
    x = np.linspace(-3.0, 3.0, 301)[:, None]
    p = np.exp(log_prob(x, process, process.predictions[0], steps=60).astype(np.float64))
    assert p.sum() * 0.02 == pytest.approx(1.0, abs=2e-3)


def test_a_standard_normal_is_known_in_few_steps() -> None:
    process, x = VariancePreserving(), points(3)

    def graph(x: np.ndarray, t: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, _ = process.alpha_sigma(float(t[0]))
        return a * x, a * v

    plan = Diffusion((3,), process=process, prediction="x0")
    a, s = process.alpha_sigma(process.time_at(0.01))
    exact = -0.5 * (x**2).sum(1) / (1 + (s / a) ** 2) - 1.5 * math.log(2 * math.pi * (1 + (s / a) ** 2))
    found = OdeLikelihood(plan, steps=40, probes=0, floor=0.01)(
        {"derivative": graph}, Noise(Double(), 0, 0, len(x)), {"x": x}
    )
    np.testing.assert_allclose(found, exact, atol=0.02)


def test_hutchinson_is_right_on_average_and_paired_by_seed() -> None:
    process, x = LinearPath(), points(4, 8)
    exact = log_prob(x, process, "velocity", steps=12)
    each = np.stack([log_prob(x, process, "velocity", seed, steps=12, probes=1) for seed in range(30)])
    error = each.std(0, ddof=1) / math.sqrt(30)
    assert np.abs(each - exact).max() > 1e-3
    # One draw of v for a whole path is unbiased for the change of volume, since x does not depend on v.
    assert (np.abs(each.mean(0) - exact) < 4.5 * error + 1e-5).all()
    many = log_prob(x, process, "velocity", 7, steps=12, probes=50)
    assert np.abs(many - exact).mean() < 0.3 * np.abs(each - exact).mean()
    np.testing.assert_array_equal(each[3], log_prob(x, process, "velocity", 3, steps=12, probes=1))
    np.testing.assert_allclose(
        each[3][:5], log_prob(x[:5], process, "velocity", 3, steps=12, probes=1), rtol=1e-5
    )


@pytest.mark.parametrize("probes", [0, 1, 3])
def test_its_evaluations_are_the_true_number(probes: int) -> None:
    process, x, told = VariancePreserving(), points(2, 3), list[tuple[int, int]]()
    graph = Derivative(Mixture(2), process, "v")
    made = OdeLikelihood(Diffusion((2,), process=process), steps=5, probes=probes)
    made({"derivative": graph}, Noise(Double(), 0, 0, 3), {"x": x}, progress=lambda *at: told.append(at))
    assert graph.calls == made.evaluations() == 10 * (probes or 2) == len(told)
    assert told[-1] == (made.evaluations(),) * 2


def test_what_is_not_given_is_asked_as_nothing() -> None:
    seen: list[tuple[np.ndarray, ...]] = []

    def graph(x: np.ndarray, t: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(rest[:-1])
        return x * 0, x * 0

    plan = Diffusion((2,), conditions=("label", "place"), null={"label": 7}, prediction="x0")
    made = OdeLikelihood(plan, given=("place",), steps=2)
    assert made.conditions_used() == ("x", "place")
    place = np.arange(3)
    made({"derivative": graph}, Noise(Double(), 0, 0, 3), {"x": points(2, 3), "place": place})
    for label, other in seen:
        assert label.tolist() == [7, 7, 7]
        assert other is place
    with pytest.raises(CallError, match="'place' has no null value"):
        OdeLikelihood(plan)


def test_as_plain_data() -> None:
    plan = Diffusion((2,), process=Karras(), prediction="edm", conditions=("label",), null={"label": 3})
    made = OdeLikelihood(plan, steps=7, probes=2, floor=0.1, given=("label",))
    assert sampler_from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.override(steps=9).steps == 9
    assert made.graphs_used() == ("derivative",)
    times = made.times()
    assert len(times) == 8
    assert times[0] == pytest.approx(0.1)
    assert times[-1] == 80.0
    assert (np.diff(times) > 0).all()
    for wrong in ({"steps": 0}, {"probes": -1}, {"floor": 0.0}):
        with pytest.raises(CallError, match="a likelihood takes"):
            OdeLikelihood(plan, **wrong)
    with pytest.raises(CallError, match="a diffusion sampler's"):
        sampler_from_json({"kind": "ode_likelihood", "sampler": OneShot().to_json()})
