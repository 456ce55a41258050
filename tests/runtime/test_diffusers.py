"""Every solver step by step against diffusers' schedulers, on a network that is not a denoiser at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from niwaki_runtime.process import Karras, LinearPath
from niwaki_runtime.process.schedules import alpha_bars, timesteps
from niwaki_runtime.samplers import Diffusion, Noise, NumpyBackend

diffusers = pytest.importorskip("diffusers")

N, SHAPE, TRAIN, STEPS = 3, (5,), 1000, 10  # a divisor of 1000: their DDIM steps by 1000 // STEPS
MIX = np.random.default_rng(0).standard_normal((5, 5)) / 2
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}
SCHEDULES = {"linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
             "cosine": {"beta_schedule": "squaredcos_cap_v2"}}  # fmt: skip


class Double(NumpyBackend):
    """Noise in float64, so that nothing but the formulas is compared."""

    def normal(self, *args: Any, **kwargs: Any) -> np.ndarray:
        return super().normal(*args, **kwargs).astype(np.float64)


def network(x: Any, t: float) -> Any:
    mix = torch.from_numpy(MIX) if isinstance(x, torch.Tensor) else MIX
    h = x @ mix + t / TRAIN
    return torch.tanh(h) if isinstance(x, torch.Tensor) else np.tanh(h)


class Graph:
    state = ()

    def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        return network(x, float(t[0]))


def ours(sampler: Diffusion, noise: Noise) -> list[np.ndarray]:
    """x after every step, the start first."""
    path = [noise.normal(SHAPE)]

    def record(x: np.ndarray, t: float, draw: int) -> np.ndarray:
        path.append(x)
        return x

    sampler({"denoiser": Graph()}, noise, {}, project=record)
    return path


def in_double(scheduler: Any, schedule: str) -> Any:
    """Our ᾱ in float64 in place of theirs in float32, once they are seen to be the same."""
    bars = torch.tensor(alpha_bars(schedule, TRAIN), dtype=torch.float64)
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), bars, rtol=1e-4, atol=1e-7)
    scheduler.alphas_cumprod = bars
    return scheduler


def close(a: np.ndarray, b: torch.Tensor) -> None:
    scale = 1.0 + b.abs().max().item()
    np.testing.assert_allclose(a / scale, b.numpy() / scale, atol=1e-5)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])  # a linspace has no such equal steps
@pytest.mark.parametrize("prediction", list(PREDICTIONS))
def test_ddim(prediction: str, spacing: str, clip: float, schedule: str) -> None:
    noise = Noise(Double(), 3, 0, N)
    sampler = Diffusion(
        SHAPE,
        solver="ddim",
        steps=STEPS,
        prediction=prediction,
        spacing=spacing,
        clip=clip,
        schedule=schedule,
    )
    scheduler = diffusers.DDIMScheduler(
        TRAIN,
        prediction_type=PREDICTIONS[prediction],
        timestep_spacing=spacing,
        clip_sample=clip > 0,
        **SCHEDULES[schedule],
    )
    in_double(scheduler, schedule).set_timesteps(STEPS)
    assert scheduler.timesteps.tolist() == list(timesteps(spacing, TRAIN, STEPS))
    x = torch.from_numpy(noise.normal(SHAPE))
    for t, mine in zip(scheduler.timesteps, ours(sampler, noise)[1:], strict=True):
        # ε follows the clipped x₀, as it does in DDPM's posterior; diffusers makes that an option.
        x = scheduler.step(network(x, float(t)), int(t), x, use_clipped_model_output=clip > 0).prev_sample
        close(mine, x)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("prediction", list(PREDICTIONS))
def test_ddpm(
    prediction: str, spacing: str, clip: float, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Noise(Double(), 3, 0, N)
    sampler = Diffusion(
        SHAPE,
        solver="ddpm",
        steps=STEPS,
        prediction=prediction,
        spacing=spacing,
        clip=clip,
        schedule=schedule,
    )
    scheduler = diffusers.DDPMScheduler(
        TRAIN,
        prediction_type=PREDICTIONS[prediction],
        clip_sample=clip > 0,
        timestep_spacing=spacing,
        **SCHEDULES[schedule],
    )
    in_double(scheduler, schedule).set_timesteps(STEPS)
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    assert scheduler.timesteps.tolist() == list(timesteps(spacing, TRAIN, STEPS))
    x = torch.from_numpy(noise.normal(SHAPE))
    for i, (t, mine) in enumerate(zip(scheduler.timesteps, ours(sampler, noise)[1:], strict=True)):
        fresh = torch.from_numpy(noise.normal(SHAPE, stream="step", draw=i))
        module = "diffusers.schedulers.scheduling_ddpm.randn_tensor"
        monkeypatch.setattr(module, lambda *a, fresh=fresh, **k: fresh)
        x = scheduler.step(network(x, float(t)), int(t), x).prev_sample
        close(mine, x)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_ddpm_with_learned_variances(spacing: str, schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nichol & Dhariwal 2021, Equation 15: their network says 2 v − 1 behind the noise, ours v beside it."""

    def share(x: Any) -> Any:
        return 0.5 + 0.4 * (torch.sin(x) if isinstance(x, torch.Tensor) else np.sin(x))

    class Both(Graph):
        def __call__(self, x: np.ndarray, t: np.ndarray) -> Any:
            return network(x, float(t[0])), share(x)

    noise, path = Noise(Double(), 3, 0, N), []
    fields = {"prediction": "epsilon", "spacing": spacing, "clip": 0.0, "schedule": schedule}
    sampler = Diffusion(SHAPE, solver="ddpm", steps=STEPS, learned_variance=True, **fields)
    sampler({"denoiser": Both()}, noise, {}, project=lambda x, t, draw: path.append(x) or x)
    scheduler = diffusers.DDPMScheduler(
        TRAIN,
        clip_sample=False,
        timestep_spacing=spacing,
        variance_type="learned_range",
        **SCHEDULES[schedule],
    )
    in_double(scheduler, schedule).set_timesteps(STEPS)
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    x = torch.from_numpy(noise.normal(SHAPE))
    for i, (t, mine) in enumerate(zip(scheduler.timesteps, path, strict=True)):
        fresh = torch.from_numpy(noise.normal(SHAPE, stream="step", draw=i))
        if i + 1 == STEPS:
            fresh = fresh * 0.0  # the clean end has no variance; theirs takes 1e-20 for it before the share
        module = "diffusers.schedulers.scheduling_ddpm.randn_tensor"
        monkeypatch.setattr(module, lambda *a, fresh=fresh, **k: fresh)
        said = torch.cat([network(x, float(t)), 2.0 * share(x) - 1.0], dim=1)
        x = scheduler.step(said, int(t), x).prev_sample
        close(mine, x)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("prediction", list(PREDICTIONS))
def test_dpm_solver(prediction: str, spacing: str, schedule: str) -> None:
    noise = Noise(Double(), 3, 0, N)
    sampler = Diffusion(
        SHAPE,
        solver="dpmpp_2m",
        steps=STEPS,
        prediction=prediction,
        spacing=spacing,
        clip=0.0,
        schedule=schedule,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler(
        TRAIN, prediction_type=PREDICTIONS[prediction], algorithm_type="dpmsolver++", solver_order=2,
        final_sigmas_type="zero", timestep_spacing=spacing, **SCHEDULES[schedule]
    )  # fmt: skip
    in_double(scheduler, schedule)
    # Their own leading and linspace leave room for a first time that is not visited: ours are given to them.
    scheduler.set_timesteps(timesteps=list(timesteps(spacing, TRAIN, STEPS)))
    scheduler.sigmas = torch.tensor(
        [s / a for a, s in map(sampler.level, (*timesteps(spacing, TRAIN, STEPS), -1))], dtype=torch.float64
    )
    x = torch.from_numpy(noise.normal(SHAPE))
    for t, mine in zip(scheduler.timesteps, ours(sampler, noise)[1:], strict=True):
        x = scheduler.step(network(x, float(t)), t, x).prev_sample
        close(mine, x)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("prediction", list(PREDICTIONS))
def test_unipc(prediction: str, spacing: str, schedule: str) -> None:
    noise = Noise(Double(), 3, 0, N)
    sampler = Diffusion(
        SHAPE, solver="unipc", steps=STEPS, prediction=prediction, spacing=spacing, clip=0.0,
        schedule=schedule,
    )  # fmt: skip
    scheduler = diffusers.UniPCMultistepScheduler(
        TRAIN, prediction_type=PREDICTIONS[prediction], solver_order=2, solver_type="bh2",
        final_sigmas_type="zero", timestep_spacing=spacing, **SCHEDULES[schedule]
    )  # fmt: skip
    in_double(scheduler, schedule).set_timesteps(STEPS)
    scheduler.timesteps = torch.tensor(timesteps(spacing, TRAIN, STEPS))
    scheduler.sigmas = torch.tensor(
        [s / a for a, s in map(sampler.level, (*timesteps(spacing, TRAIN, STEPS), -1))], dtype=torch.float64
    )
    x = torch.from_numpy(noise.normal(SHAPE))
    for t, mine in zip(scheduler.timesteps, ours(sampler, noise)[1:], strict=True):
        x = scheduler.step(network(x, float(t)), t, x).prev_sample
        close(mine, x)


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("prediction", list(PREDICTIONS))
def test_ddim_with_noise(prediction: str, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Noise(Double(), 3, 0, N)
    sampler = Diffusion(SHAPE, solver="ddim", steps=STEPS, prediction=prediction, clip=0.0, eta=eta)
    scheduler = diffusers.DDIMScheduler(
        TRAIN, prediction_type=PREDICTIONS[prediction], timestep_spacing="trailing", clip_sample=False,
        **SCHEDULES["cosine"],
    )  # fmt: skip
    in_double(scheduler, "cosine").set_timesteps(STEPS)
    x = torch.from_numpy(noise.normal(SHAPE))
    for i, (t, mine) in enumerate(zip(scheduler.timesteps, ours(sampler, noise)[1:], strict=True)):
        fresh = torch.from_numpy(noise.normal(SHAPE, stream="step", draw=i))
        x = scheduler.step(network(x, float(t)), int(t), x, eta=eta, variance_noise=fresh).prev_sample
        close(mine, x)


@pytest.mark.parametrize("prediction", list(PREDICTIONS))
def test_dynamic_thresholding(prediction: str) -> None:
    """Theirs clips to its greatest scale where that is small; with none they are the same."""
    noise = Noise(Double(), 3, 0, N)
    sampler = Diffusion(SHAPE, solver="ddim", steps=STEPS, prediction=prediction, clip=1.0, threshold=0.7)
    scheduler = diffusers.DDIMScheduler(
        TRAIN, prediction_type=PREDICTIONS[prediction], timestep_spacing="trailing", clip_sample=False,
        thresholding=True, dynamic_thresholding_ratio=0.7, sample_max_value=1e9, **SCHEDULES["cosine"],
    )  # fmt: skip
    in_double(scheduler, "cosine").set_timesteps(STEPS)
    x = torch.from_numpy(noise.normal(SHAPE))
    for t, mine in zip(scheduler.timesteps, ours(sampler, noise)[1:], strict=True):
        out, wide = network(x, float(t))[..., None], x[..., None]  # they want an axis after the channels
        x = scheduler.step(out, int(t), wide, use_clipped_model_output=True).prev_sample[..., 0]
        close(mine, x)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching(shift: float) -> None:
    process = LinearPath(shift=shift)
    sampler = Diffusion(SHAPE, solver="euler", steps=STEPS, process=process, prediction="velocity", clip=0.0)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(TRAIN)
    # Their own times end at 1/1000, not at 1/N; given ours, the steps are compared.
    scheduler.set_timesteps(sigmas=list(process.times(STEPS)))
    noise = Noise(Double(), 3, 0, N)
    x = torch.from_numpy(noise.normal(SHAPE))
    scheduler.sigmas = torch.tensor([s for _, s in process.levels(STEPS)], dtype=torch.float64)
    for t, mine in zip(scheduler.timesteps, ours(sampler, noise)[1:], strict=True):
        x = scheduler.step(network(x, float(t)), t, x).prev_sample.double()
        close(mine, x)


def test_trailing_times_are_theirs_too() -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(TRAIN, timestep_spacing="trailing")
    for steps in (1, 4, 25, 30, 50, 1000):
        scheduler.set_timesteps(steps)
        assert scheduler.timesteps.tolist() == list(timesteps("trailing", TRAIN, steps))


def walk(scheduler: Any, sampler: Diffusion, noise: Noise, sigmas: list[float]) -> None:
    """Their loop on our σ in float64, against ours after every step."""
    theirs = torch.from_numpy(noise.normal(SHAPE)) * scheduler.init_noise_sigma
    path, calls = [theirs], len(scheduler.timesteps)
    torch.testing.assert_close(scheduler.sigmas.double(), torch.tensor(sigmas).double(), rtol=1e-4, atol=1e-6)
    scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float64)
    for i in range(calls):
        t = scheduler.timesteps[i]
        given = scheduler.scale_model_input(path[-1], t)
        path.append(scheduler.step(network(given, 0.0), t, path[-1]).prev_sample)
    mine, each = ours(sampler, noise), 2 if len(path) > STEPS + 1 else 1
    assert calls == sampler.evaluations()
    kept = [*path[::2], path[-1]] if each == 2 else path
    for a, b in zip(mine[1:], kept[1:], strict=True):
        close(a, b)


class Timeless:
    state = ()

    def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        return network(x, 0.0)


@pytest.fixture
def timeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """They tell the network another time than EDM does, which is not what is compared."""
    monkeypatch.setitem(globals(), "Graph", Timeless)


@pytest.mark.usefixtures("timeless")
def test_edm_euler() -> None:
    process = Karras(sigma_min=0.01, sigma_max=30.0, rho=6.0, sigma_data=0.7)
    sampler = Diffusion(SHAPE, solver="euler", steps=STEPS, process=process, prediction="edm", clip=0.0)
    scheduler = diffusers.EDMEulerScheduler(
        sigma_min=0.01, sigma_max=30.0, sigma_data=0.7, rho=6.0, sigma_schedule="karras"
    )
    scheduler.set_timesteps(STEPS)
    noise_times = [process.network_time(t) for t in process.times(STEPS)]
    np.testing.assert_allclose(scheduler.timesteps.numpy(), noise_times, rtol=1e-4)
    # Theirs start from N(0, σ_max² + 1), ours from N(0, σ_max²).
    ratio = scheduler.init_noise_sigma / process.sigma_max
    noise = Noise(Double(), 3, 0, N)
    walk(scheduler, replace(sampler, start_scale=float(ratio)), noise, [s for _, s in process.levels(STEPS)])


@pytest.mark.usefixtures("timeless")
def test_heun() -> None:
    scheduler = diffusers.HeunDiscreteScheduler(TRAIN, use_karras_sigmas=True, **SCHEDULES["linear"])
    scheduler.set_timesteps(STEPS)
    process = Karras(
        sigma_min=float(scheduler.sigmas[-2]), sigma_max=float(scheduler.sigmas[0]), sigma_data=1.0
    )
    sampler = Diffusion(SHAPE, solver="heun", steps=STEPS, process=process, prediction="epsilon", clip=0.0)
    first, *rest, end = (s for _, s in process.levels(STEPS))
    twice = [first, *(s for s in rest for _ in range(2)), end]  # each is asked at from both sides
    ratio = scheduler.init_noise_sigma / process.sigma_max
    walk(scheduler, replace(sampler, start_scale=float(ratio)), Noise(Double(), 3, 0, N), twice)
