"""The solvers on the exact denoiser of a Gaussian mixture: order of convergence, right distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import integrate, stats

from niwaki_runtime.samplers import Diffusion, Noise, NumpyBackend
from niwaki_runtime.samplers.solvers import SOLVERS

WEIGHT, MEAN, VARIANCE = np.array([0.3, 0.5, 0.2]), np.array([-1.5, 0.3, 1.4]), np.array([0.04, 0.02, 0.09])


def denoised(x: np.ndarray, a: float, s: float) -> np.ndarray:
    """E[x₀ | a x₀ + s ε = x]: each component's posterior mean, weighted by its responsibility."""
    x = np.asarray(x, np.float64)[..., None]
    total = a * a * VARIANCE + s * s
    log = np.log(WEIGHT) - 0.5 * (x - a * MEAN) ** 2 / total - 0.5 * np.log(total)
    r = np.exp(log - log.max(-1, keepdims=True))
    r /= r.sum(-1, keepdims=True)
    return (r * (MEAN + a * VARIANCE / total * (x - a * MEAN))).sum(-1)


def mixture_cdf(x: np.ndarray) -> np.ndarray:
    return stats.norm.cdf(x[:, None], MEAN, np.sqrt(VARIANCE)) @ WEIGHT


def level(lam: float) -> tuple[float, float]:
    """(α, σ) at λ = log(α/σ)."""
    return 1 / math.sqrt(1 + math.exp(-2 * lam)), 1 / math.sqrt(1 + math.exp(2 * lam))


FIRST, LAST = -1.5, 1.5
START = np.linspace(-2.0, 2.0, 41)


@cache
def exact() -> np.ndarray:
    """The probability-flow ODE, d(x/σ)/dλ = e^λ E[x₀|x] (Lu et al. 2022, Equation 13), to twelve digits."""

    def slope(lam: float, y: np.ndarray) -> np.ndarray:
        a, s = level(lam)
        return math.exp(lam) * denoised(y * s, a, s)

    y = integrate.solve_ivp(slope, (FIRST, LAST), START / level(FIRST)[1], "DOP853", rtol=1e-12, atol=1e-12).y
    return y[:, -1] * level(LAST)[1]


PATHS: dict[str, Callable[[float], tuple[float, float]]] = {
    "variance preserving": level,
    "karras": lambda lam: (1.0, math.exp(-lam)),
    "linear": lambda lam: (1.0 / (1.0 + math.exp(-lam)), 1.0 / (1.0 + math.exp(lam))),
}
"""(α, σ) at the same λ. All of them lead from x to the same x/α."""


def error(solver: str, steps: int, path: str = "variance preserving") -> float:
    levels = [PATHS[path](FIRST + (LAST - FIRST) * i / steps) for i in range(steps + 1)]
    levels.append((1.0, 0.0))  # the end, which no solver asks about
    last: list[np.ndarray] = []

    def model(x: np.ndarray, i: int) -> tuple[np.ndarray, np.ndarray]:
        a, s = levels[i]
        x0 = denoised(x, a, s)
        return x0, (x - a * x0) / s

    def watch(x: np.ndarray, i: int) -> np.ndarray:
        if i == steps - 1:
            last.append(x)
        return x

    start = START * levels[0][0] / level(FIRST)[0]
    SOLVERS[solver](model, start, levels, lambda draw: np.zeros_like(START), watch)
    return float(np.abs(last[0] * level(LAST)[0] / levels[-2][0] - exact()).mean())


@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize(
    ("solver", "order"),
    [("ddim", 1), ("euler", 1), ("heun", 2), ("heun_ratio", 2), ("dpmpp_2m", 2), ("unipc", 3)],
)
def test_order_of_convergence(solver: str, order: int, path: str) -> None:
    steps = np.array([32, 64, 128, 256])
    errors = [error(solver, k, path) for k in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.15)


def test_the_second_order_wins_at_equal_cost() -> None:
    assert error("dpmpp_2m", 20) < 0.2 * error("ddim", 20)


class Exact:
    """The denoiser as a graph of the sampler: x `(n, 1)`, t `(n,)` → x₀."""

    state = ()

    def __init__(self, sampler: Diffusion) -> None:
        self.sampler = sampler

    def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        assert np.all(t == t[0])
        return denoised(x, *self.sampler.level(float(t[0]))).astype(np.float32)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("spacing", ["trailing", "linspace", "leading"])
@pytest.mark.parametrize(("solver", "steps"), [("ddpm", 250), ("ddim", 100), ("dpmpp_2m", 100)])
def test_samples_follow_the_mixture(solver: str, steps: int, spacing: str, schedule: str) -> None:
    if spacing == "leading":
        steps = 500  # coarser, it starts below the noise that its first x is drawn from (Lin et al. 2024)
    sampler = Diffusion(
        (1,), solver=solver, steps=steps, prediction="x0", clip=0.0, spacing=spacing, schedule=schedule
    )
    x = sampler({"denoiser": Exact(sampler)}, Noise(NumpyBackend(), 1, 0, 2000), {})
    assert x.dtype == np.float32
    assert stats.kstest(x[:, 0], mixture_cdf).pvalue > 0.01


def test_one_step_is_the_mean() -> None:
    sampler = Diffusion((1,), solver="ddim", steps=1, prediction="x0", clip=0.0)
    x = sampler({"denoiser": Exact(sampler)}, Noise(NumpyBackend(), 1, 0, 100), {})
    np.testing.assert_allclose(x, WEIGHT @ MEAN, atol=1e-3)


class Gaussian(Exact):
    """Two standard coordinates with correlation ρ: E[x₀|x] = α Σ (α² Σ + σ²)⁻¹ x."""

    def __init__(self, sampler: Diffusion, rho: float) -> None:
        super().__init__(sampler)
        self.covariance = np.array([[1, rho], [rho, 1]])

    def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        a, s = self.sampler.level(float(t[0]))
        gain = a * self.covariance @ np.linalg.inv(a * a * self.covariance + s * s * np.eye(2))
        return (x @ gain.T).astype(np.float32)


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_the_hook_pins_what_is_known(rho: float) -> None:
    """Inpainting by replacement: the first coordinate is given, at the noise level of every time reached."""
    given = 1.2
    sampler = Diffusion((2,), solver="ddpm", steps=500, prediction="x0", clip=0.0)
    noise = Noise(NumpyBackend(), 0, 0, 2000)
    visited: list[tuple[float, int]] = []

    def known(x: np.ndarray, t: float, draw: int) -> np.ndarray:
        visited.append((t, draw))
        a, s = sampler.level(t)
        pinned = a * given + s * noise.normal((1,), stream="project", draw=draw)
        return np.concatenate([pinned, x[:, 1:]], axis=1).astype(np.float32)

    graphs = {"denoiser": Gaussian(sampler, rho)}
    pinned = sampler(graphs, noise, {}, project=known)
    free = sampler(graphs, noise, {})
    assert visited == [(float(t), i) for i, t in enumerate([*range(997, 0, -2), -1])]
    np.testing.assert_allclose(pinned[:, 0], given, rtol=1e-6)
    assert np.corrcoef(free.T)[0, 1] == pytest.approx(rho, abs=0.08)  # 3.6 standard errors at ρ = 0
    if rho == 0.0:  # what is independent of the known part does not feel it
        np.testing.assert_array_equal(pinned[:, 1], free[:, 1])
    else:  # drawn towards ρ·given, but short of it, as replacement is (Lugmayr et al. 2022)
        assert 0.6 * rho * given < pinned[:, 1].mean() < 1.1 * rho * given
        assert pinned[:, 1].std() < 0.75
