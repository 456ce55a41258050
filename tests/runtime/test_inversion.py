"""DDIM backwards: x to the noise that it is made of, and again to x."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import Karras, LinearPath, Process, VariancePreserving
from niwaki_runtime.samplers import Diffusion, Inversion, Noise, NumpyBackend, OneShot, sampler_from_json

WEIGHT, MEAN, VARIANCE = np.array([0.3, 0.5, 0.2]), np.array([-1.5, 0.3, 1.4]), np.array([0.04, 0.02, 0.09])
PATHS: list[Process] = [VariancePreserving(), Karras(sigma_max=20.0), LinearPath()]


class Double(NumpyBackend):
    def normal(self, *args: Any, **kwargs: Any) -> np.ndarray:
        return super().normal(*args, **kwargs).astype(np.float64)


COUNT = 300
NOISE = Noise(Double(), 0, 0, COUNT)


class Mixture:
    """E[x₀ | x] of the mixture, by what the network is given."""

    state = ()

    def __init__(self, process: Process) -> None:
        self.process = process
        self.calls = 0

    def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        self.calls += 1
        told = float(t[0])
        at = {"karras": math.exp(min(4 * told, 9.0)), "linear": told / 1000}.get(self.process.kind, told)
        a, s = self.process.alpha_sigma(at)
        x = np.asarray(x / self.process.network_input(1.0, a, s), np.float64)[..., None]
        total = a * a * VARIANCE + s * s
        log = np.log(WEIGHT) - 0.5 * (x - a * MEAN) ** 2 / total - 0.5 * np.log(total)
        r = np.exp(log - log.max(-1, keepdims=True))
        r /= r.sum(-1, keepdims=True)
        return (r * (MEAN + a * VARIANCE / total * (x - a * MEAN))).sum(-1)


def plan(process: Process, steps: int, **options: Any) -> Diffusion:
    return Diffusion((1,), solver="ddim", process=process, steps=steps, prediction="x0", clip=0.0, **options)


def samples() -> np.ndarray:
    rng = np.random.default_rng(0)
    which = rng.choice(3, COUNT, p=WEIGHT)
    return (MEAN[which] + np.sqrt(VARIANCE[which]) * rng.standard_normal(COUNT))[:, None]


def there_and_back(process: Process, steps: int, refinements: int = 0) -> tuple[np.ndarray, float]:
    """z, and the mean error of what is made of it."""
    x, graphs = samples(), {"denoiser": Mixture(process)}
    z = Inversion(plan(process, steps), refinements=refinements)(graphs, NOISE, {"x": x})
    again = plan(process, steps, start="z")(graphs, NOISE, {"z": z})
    return z, float(np.median(np.abs(again - x)))


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
def test_the_noise_of_real_samples_is_normal(process: Process) -> None:
    z, _ = there_and_back(process, 500)
    assert stats.kstest(z[:, 0], stats.norm.cdf).pvalue > 0.01


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
def test_the_error_of_a_reconstruction_falls_with_the_steps(process: Process) -> None:
    """Of first order: both ways make the errors of Euler's method."""
    errors = [there_and_back(process, steps)[1] for steps in (50, 100, 200)]
    assert errors[0] < 0.15
    slope = -np.polyfit(np.log([50, 100, 200]), np.log(errors), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
def test_refined_what_is_made_of_the_noise_is_the_sample(process: Process) -> None:
    errors = [there_and_back(process, 50, refinements)[1] for refinements in (0, 2, 20)]
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.02 * errors[0]


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
def test_drawn_noise_is_found_again(process: Process) -> None:
    z = NOISE.normal((1,))
    graph = {"denoiser": Mixture(process)}
    x = plan(process, 50)(graph, NOISE, {})
    found = Inversion(plan(process, 50), refinements=20)(graph, NOISE, {"x": x})
    plain = Inversion(plan(process, 50))(graph, NOISE, {"x": x})
    assert np.median(np.abs(found - z)) < 1e-3 < 0.1 * np.median(np.abs(plain - z))


def test_it_is_that_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    mix = np.random.default_rng(0).standard_normal((5, 5)) / 2
    sampler = Diffusion((5,), steps=10, prediction="epsilon", spacing="leading", schedule="linear", clip=0.0)
    scheduler = diffusers.DDIMInverseScheduler(
        1000,
        beta_start=1e-4,
        beta_end=0.02,
        clip_sample=False,
        timestep_spacing="leading",
        set_alpha_to_one=True,
    )
    scheduler.set_timesteps(10)
    assert scheduler.timesteps.tolist() == list(reversed(sampler.process.times(10)))
    x = Noise(Double(), 1, 0, 3).normal((5,))

    def graph(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.tanh(x @ mix + t[:, None] / 1000)

    theirs = torch.from_numpy(x)
    for t in scheduler.timesteps:
        said = torch.from_numpy(graph(theirs.numpy(), np.full(3, float(t))))
        theirs = scheduler.step(said, int(t), theirs).prev_sample
    mine = Inversion(sampler)({"denoiser": graph}, Noise(Double(), 1, 0, 3), {"x": x})
    np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-5)


@pytest.mark.parametrize("refinements", [0, 3])
def test_its_evaluations_are_the_true_number(refinements: int) -> None:
    graph, told = Mixture(PATHS[0]), list[tuple[int, int]]()
    made = Inversion(plan(PATHS[0], 7), refinements=refinements)
    made({"denoiser": graph}, NOISE, {"x": samples()}, progress=lambda *at: told.append(at))
    assert graph.calls == made.evaluations() == 7 * (1 + refinements) == len(told)
    assert told[-1] == (made.evaluations(), made.evaluations())


def test_as_plain_data() -> None:
    made = Inversion(plan(LinearPath(), 9, conditions=("label",)), "image", 2)
    assert sampler_from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.conditions_used() == ("image", "label")
    other = made.override(steps=4, refinements=5)
    assert (other.sampler.steps, other.refinements) == (4, 5)
    with pytest.raises(CallError, match="inverted is a diffusion"):
        sampler_from_json({"kind": "inversion", "sampler": OneShot().to_json()})
    with pytest.raises(CallError, match="has an option 'stepz'"):
        made.override(stepz=3)
    with pytest.raises(CallError, match="eta and churn"):
        Inversion(Diffusion((1,), eta=0.5))
