"""Enlarging in latents: the means of blocks are exact, and on the way x₀ is moved through the autoencoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import Karras, LinearPath, Process, VariancePreserving
from niwaki_runtime.samplers import Diffusion, LatentUpscale, Noise, NumpyBackend, sampler_from_json

RNG = np.random.default_rng(0)
SMALL = RNG.uniform(-1, 1, (3, 1, 4, 4)).astype(np.float32)
SMALL[0, 0, 0] = [-1.0, 1.0, -1.0, 1.0]
KNOWN = SMALL.repeat(2, -2).repeat(2, -1)
PATHS = [VariancePreserving(), Karras(), LinearPath()]
MIX = np.linalg.qr(RNG.normal(size=(64, 64)))[0].astype(np.float32)


def still(x: Any, t: Any) -> Any:
    return 0.3 * x


def encode(x: Any) -> Any:
    return 2.0 * (x.reshape(len(x), 64) @ MIX).reshape(-1, 4, 4, 4) + 0.25


def decode(z: Any) -> Any:
    return ((z - 0.25) / 2.0).reshape(len(z), 64) @ MIX.T


GRAPHS = {"denoiser": still, "encoder": encode, "decoder": lambda z: decode(z).reshape(-1, 1, 8, 8)}


def plan(process: Process, **changes: Any) -> Diffusion:
    return Diffusion(shape=(4, 4, 4), steps=6, process=process, prediction="x0", clip=0.0, **changes)


def run(sampler: Any, **conditions: Any) -> np.ndarray:
    made: np.ndarray = sampler(GRAPHS, Noise(NumpyBackend(), 5, 0, 3), conditions)
    return made


def means(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = x.reshape(len(x), 1, 4, 2, 4, 2).mean((-3, -1))
    return found


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
def test_the_means_are_exact_and_values_within_the_bound(process: Process) -> None:
    made = run(LatentUpscale(plan(process)), known=KNOWN)
    np.testing.assert_allclose(means(made), SMALL, atol=1e-6)
    assert np.abs(made).max() <= 1.0 + 1e-6
    free = run(LatentUpscale(plan(process), bound=0.0), known=KNOWN)
    np.testing.assert_allclose(means(free), SMALL, atol=1e-5)


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
def test_it_is_the_projection_of_the_null_space_in_pixels(process: Process) -> None:
    """DDNM's x₀ − M x₀ + M known at every step, in pixels of an autoencoder that loses nothing; so the last
    step leads to the means before they are set."""
    sampler = plan(process)
    noise = Noise(NumpyBackend(), 5, 0, 3)
    times, levels = process.times(6), process.levels(6)
    ask = sampler.predictor(GRAPHS, noise, {})
    x = noise.normal(sampler.shape) * process.start_scale(6)
    for i, t in enumerate(times):
        x0, eps = ask(x, t, levels[i])
        y = GRAPHS["decoder"](x0)
        y = y - means(y).repeat(2, -2).repeat(2, -1) + KNOWN
        a, s = levels[i + 1]
        x = a * encode(y) + s * eps
    wanted = GRAPHS["decoder"](x)
    made = run(LatentUpscale(sampler, bound=0.0), known=KNOWN)
    np.testing.assert_allclose(made, wanted, atol=2e-5)


def test_it_is_plain_data() -> None:
    sampler = LatentUpscale(plan(PATHS[0]), factor=4, bound=0.5)
    assert sampler_from_json(sampler.to_json()) == sampler
    assert sampler.graphs_used() == ("encoder", "denoiser", "decoder")
    assert sampler.override(factor=2, steps=3).evaluations() == 3
    with pytest.raises(CallError, match="factor is at least 1"):
        LatentUpscale(plan(PATHS[0]), factor=0)
