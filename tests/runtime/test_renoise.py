"""A sampler that begins on the way: from α x + σ ε at the time of its first step."""

from __future__ import annotations

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import Karras, LinearPath, Process, VariancePreserving
from niwaki_runtime.samplers import Diffusion, Noise, NumpyBackend, OneShot, Renoise, sampler_from_json

SHAPE = (1, 4, 4)
X = np.random.default_rng(0).uniform(-1, 1, (3, *SHAPE)).astype(np.float32)
PATHS = [VariancePreserving(), Karras(), LinearPath()]


class Still:
    state = ()

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        self.seen.append(x)
        return 0.3 * x


def diffusion(process: Process, **changes: object) -> Diffusion:
    return Diffusion(shape=SHAPE, steps=6, process=process, prediction="x0", **changes)


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
@pytest.mark.parametrize("solver", ["ddim", "heun", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize(("strength", "first"), [(0.01, 5), (1 / 6, 5), (0.5, 3), (0.6, 2), (1.0, 0)])
def test_it_begins_at_the_level_of_its_first_step(
    process: Process, solver: str, strength: float, first: int
) -> None:
    sampler, network, calls = Renoise(diffusion(process, solver=solver), strength=strength), Still(), []
    noise = Noise(NumpyBackend(), 5, 0, 3)
    made = sampler({"denoiser": network}, noise, {"x": X}, progress=lambda *done: calls.append(done))
    assert sampler.first == first
    a, s = process.alpha_sigma(process.times(6)[first])
    want = process.network_input(a * X + s * noise.normal(SHAPE), a, s)
    np.testing.assert_allclose(network.seen[0], want, rtol=1e-5, atol=1e-6)
    assert len(network.seen) == sampler.evaluations()
    assert calls[-1] == (sampler.evaluations(), sampler.evaluations())
    assert np.isfinite(made).all()


def test_a_denoiser_that_knows_the_sample_gives_it_back() -> None:
    for process in PATHS:
        made = Renoise(diffusion(process), strength=0.7)(
            {"denoiser": lambda x, t: X}, Noise(NumpyBackend(), 5, 0, 3), {"x": X}
        )
        np.testing.assert_allclose(made, X, atol=1e-6)


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "heun", "dpmpp_2m", "unipc"])
def test_from_the_first_step_on_it_is_the_sampler_itself(solver: str) -> None:
    plain, noise = diffusion(PATHS[0], solver=solver), Noise(NumpyBackend(), 5, 0, 3)
    made = plain.steps_from(0, noise.normal(SHAPE), {"denoiser": Still()}, noise, {})
    np.testing.assert_array_equal(made, plain({"denoiser": Still()}, noise, {}))


def test_it_is_plain_data() -> None:
    sampler = Renoise(diffusion(PATHS[1]), strength=0.25)
    assert sampler_from_json(sampler.to_json()) == sampler
    changed = sampler.override(strength=1.0, steps=9)
    assert (changed.strength, changed.sampler.steps) == (1.0, 9)
    for bad in (0.0, 1.5):
        with pytest.raises(CallError, match="above 0 and is at most 1"):
            sampler.override(strength=bad)
    with pytest.raises(CallError, match="only a diffusion sampler"):
        sampler_from_json({**sampler.to_json(), "sampler": OneShot().to_json()})
