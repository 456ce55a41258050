"""Churn, Karras et al. 2022, Algorithm 2: step by step against a version written anew, and k-diffusion's."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import types
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import Karras, LinearPath, Process, VariancePreserving
from niwaki_runtime.samplers import Diffusion, Noise, NumpyBackend

N, SHAPE, STEPS = 3, (5,), 9
MIX = np.random.default_rng(0).standard_normal((5, 5)) / 2
PROCESS = Karras(sigma_min=0.01, sigma_max=30.0, sigma_data=0.7)
CHURNS: list[dict[str, Any]] = [
    {"churn": 0.0},
    {"churn": 2.0},
    {"churn": 40.0},  # beyond √2 − 1 for each step
    {"churn": 3.0, "churn_interval": (0.05, 10.0)},
    {"churn": 3.0, "churn_interval": (0.05, 10.0), "churn_noise": 1.007},
]
PATHS: list[Process] = [PROCESS, VariancePreserving(), LinearPath()]


class Double(NumpyBackend):
    def normal(self, *args: Any, **kwargs: Any) -> np.ndarray:
        return super().normal(*args, **kwargs).astype(np.float64)


def denoised(x: Any, sigma: float) -> Any:
    """D(x, σ), anything that depends on both."""
    xp, mix = (torch, torch.from_numpy(MIX)) if isinstance(x, torch.Tensor) else (np, MIX)
    return xp.tanh(x @ mix / (1.0 + sigma) + math.log(sigma))


class Graph:
    """D as the network that says x₀: it is given x/√(σ² + σ_data²) and ln σ / 4."""

    state = ()

    def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        sigma = math.exp(4.0 * float(t[0]))
        return denoised(x * math.sqrt(sigma**2 + PROCESS.sigma_data**2), sigma)


def ours(solver: str, **options: Any) -> list[np.ndarray]:
    """x after every step, the start first."""
    noise = Noise(Double(), 3, 0, N)
    sampler = Diffusion(
        SHAPE, solver=solver, steps=STEPS, process=PROCESS, prediction="x0", clip=0.0, **options
    )
    path = [noise.normal(SHAPE) * PROCESS.sigma_max]

    def record(x: np.ndarray, t: float, draw: int) -> np.ndarray:
        path.append(x)
        return x

    sampler({"denoiser": Graph()}, noise, {}, project=record)
    return path


def drawn(step: int) -> np.ndarray:
    return Noise(Double(), 3, 0, N).normal(SHAPE, stream="step", draw=step)


@pytest.mark.parametrize("options", CHURNS, ids=str)
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_it_is_algorithm_2(solver: str, options: dict[str, Any]) -> None:
    path = ours(solver, **options)
    low, high = options.get("churn_interval", (0.0, math.inf))
    sigmas = [s for _, s in PROCESS.levels(STEPS)]
    x = path[0]
    for i, ((sigma, after), mine) in enumerate(zip(pairwise(sigmas), path[1:], strict=True)):
        gamma = min(options["churn"] / STEPS, math.sqrt(2.0) - 1.0) if low <= sigma <= high else 0.0
        hat = sigma + gamma * sigma
        x = x + math.sqrt(hat**2 - sigma**2) * options.get("churn_noise", 1.0) * drawn(i)
        slope = (x - denoised(x, hat)) / hat
        ahead = x + (after - hat) * slope
        if solver == "heun" and after:
            slope_ahead = (ahead - denoised(ahead, after)) / after
            ahead = x + (after - hat) * 0.5 * (slope + slope_ahead)
        x = ahead
        # The network is told the time in float32.
        np.testing.assert_allclose(mine, x, rtol=1e-5, atol=1e-5)


@pytest.fixture
def sampling(monkeypatch: pytest.MonkeyPatch) -> Any:
    """k-diffusion's file of samplers, without what the rest of the package asks for."""
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("k-diffusion is not installed")
    package, utils, odes = (types.ModuleType(name) for name in ("k_diffusion", "utils", "torchdiffeq"))
    package.__path__ = list(spec.submodule_search_locations)
    utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]  # type: ignore[attr-defined]
    package.utils, odes.odeint = utils, None  # type: ignore[attr-defined]
    torchsde = types.ModuleType("torchsde")
    for name, module in (
        ("k_diffusion", package), ("k_diffusion.utils", utils), ("torchdiffeq", odes), ("torchsde", torchsde)
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "k_diffusion.sampling", raising=False)
    yield importlib.import_module("k_diffusion.sampling")
    sys.modules.pop("k_diffusion.sampling", None)


@pytest.mark.parametrize("options", CHURNS, ids=str)
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_it_is_that_of_k_diffusion(
    solver: str, options: dict[str, Any], sampling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = iter(range(STEPS))
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.from_numpy(drawn(next(draws))))
    low, high = options.get("churn_interval", (0.0, math.inf))
    start = torch.from_numpy(Noise(Double(), 3, 0, N).normal(SHAPE) * PROCESS.sigma_max)
    theirs: list[torch.Tensor] = []

    def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return denoised(x, float(sigma[0]))

    x = getattr(sampling, f"sample_{solver}")(
        model, start, torch.tensor([s for _, s in PROCESS.levels(STEPS)], dtype=torch.float64), disable=True,
        s_churn=options["churn"], s_tmin=low, s_tmax=high, s_noise=options.get("churn_noise", 1.0),
        callback=lambda at: theirs.append(at["x"]),
    )  # fmt: skip
    mine = ours(solver, **options)
    np.testing.assert_allclose(mine[-1], x.numpy(), rtol=1e-5, atol=1e-5)
    if not options["churn"]:
        for a, b in zip(mine, theirs, strict=False):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-5)


def test_dpm_solver_is_that_of_k_diffusion(sampling: Any) -> None:
    theirs: list[torch.Tensor] = []
    sampling.sample_dpmpp_2m(
        lambda x, sigma: denoised(x, float(sigma[0])),
        torch.from_numpy(Noise(Double(), 3, 0, N).normal(SHAPE) * PROCESS.sigma_max),
        torch.tensor([s for _, s in PROCESS.levels(STEPS)], dtype=torch.float64),
        disable=True,
        callback=lambda at: theirs.append(at["x"]),
    )
    for a, b in zip(ours("dpmpp_2m"), theirs, strict=False):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_of_one_gaussian_it_keeps_the_distribution(solver: str, process: Process) -> None:
    """Data of N(0, 0.5²) on any path: E[x₀|x] is linear, and churned samples have that deviation, too."""

    def graph(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        told = float(t[0])
        known = {"karras": math.exp(min(4 * told, 9.0)), "linear": told / 1000}
        at = known.get(process.kind, told)
        a, s = process.alpha_sigma(at)
        x = x / process.network_input(np.ones(1), a, s)
        return a * 0.25 / (a * a * 0.25 + s * s) * x

    sampler = Diffusion(
        (64,), solver=solver, steps=200 if solver == "euler" else 60, process=process, prediction="x0",
        clip=0.0, churn=20.0,
    )  # fmt: skip
    x = sampler({"denoiser": graph}, Noise(Double(), 0, 0, 500), {})
    assert x.std() == pytest.approx(0.5, rel=0.05 if solver == "euler" else 0.01)


def test_what_cannot_be_churned_is_refused() -> None:
    for solver in ("ddim", "dpmpp_2m", "unipc", "ddpm", "consistency"):
        with pytest.raises(CallError, match="has no churn"):
            Diffusion(SHAPE, solver=solver, churn=1.0)
    with pytest.raises(CallError, match="must not be negative"):
        Diffusion(SHAPE, solver="heun", churn=-1.0)
    with pytest.raises(CallError, match="churn_interval"):
        Diffusion(SHAPE, solver="heun", churn=1.0, churn_interval=(3.0, 1.0))
