"""Enlarging: means of blocks are exact at the end, values stay in range, and means go straight on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.core.backend import TorchBackend
from niwaki_runtime.errors import CallError
from niwaki_runtime.process import END, Karras, LinearPath, Process, VariancePreserving
from niwaki_runtime.samplers import Diffusion, Noise, NumpyBackend, OneShot, Upscale, sampler_from_json

SHAPE = (2, 8, 4)
RNG = np.random.default_rng(0)
KNOWN = RNG.uniform(-1, 1, (3, *SHAPE)).astype(np.float32)
KNOWN[0, 0, :4] = 1.0  # a block at either end of the range has but one solution
KNOWN[0, 1, :4] = -1.0
PATHS = [VariancePreserving(), Karras(), LinearPath()]


class Still:
    state = ()

    def __call__(self, x, t):  # type: ignore[no-untyped-def]
        return 0.3 * x


def means(x: np.ndarray, f: int) -> np.ndarray:
    return x.reshape(*x.shape[:2], SHAPE[1] // f, f, SHAPE[2] // f, f).astype(np.float64).mean((3, 5))


def diffusion(process: Process, **changes: object) -> Diffusion:
    return Diffusion(shape=SHAPE, steps=6, process=process, prediction="x0", **changes)


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
@pytest.mark.parametrize("solver", ["ddim", "heun", "dpmpp_2m"])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_means_are_exact_and_values_in_range(process: Process, solver: str, factor: int) -> None:
    sampler = Upscale(diffusion(process, solver=solver), factor=factor)
    made = sampler({"denoiser": Still()}, Noise(NumpyBackend(), 5, 0, 3), {"known": KNOWN})
    np.testing.assert_allclose(means(made, factor), means(KNOWN, factor), atol=2e-6)
    assert np.abs(made).max() <= 1.0 + 1e-6
    assert made.dtype == np.float32


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
def test_without_bounds_blocks_are_moved_as_they_are(process: Process) -> None:
    plain = diffusion(process, clip=0.0)
    made = Upscale(plain, factor=2)({"denoiser": Still()}, Noise(NumpyBackend(), 5, 0, 3), {"known": KNOWN})
    np.testing.assert_allclose(means(made, 2), means(KNOWN, 2), atol=1e-5)


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
def test_on_the_way_means_lie_between_the_first_noise_and_what_is_known(process: Process) -> None:
    seen: list[np.ndarray] = []

    class Watched(Still):
        def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
            seen.append(x)
            return super().__call__(x, t)

    noise = Noise(NumpyBackend(), 5, 0, 3)
    Upscale(diffusion(process), factor=2)({"denoiser": Watched()}, noise, {"known": KNOWN})
    times, start = [*process.times(6), END], noise.normal(SHAPE)
    for k in range(1, 6):
        a, s = process.alpha_sigma(times[k])
        want = process.network_input(a * means(KNOWN, 2) + s * means(start, 2), a, s)
        np.testing.assert_allclose(means(seen[k], 2), want, atol=2e-5 * max(1.0, s))


def test_torch_and_numpy_agree() -> None:
    sampler = Upscale(diffusion(PATHS[0]), factor=2)
    by_numpy = sampler({"denoiser": Still()}, Noise(NumpyBackend(), 5, 0, 3), {"known": KNOWN})
    backend = TorchBackend(torch.device("cpu"))
    by_torch = sampler({"denoiser": Still()}, Noise(backend, 5, 0, 3), {"known": torch.from_numpy(KNOWN)})
    np.testing.assert_allclose(by_torch.numpy(), by_numpy, atol=1e-5)


def test_it_is_plain_data_and_refuses_blocks_that_do_not_fit() -> None:
    sampler = Upscale(diffusion(PATHS[1]), known="picture", factor=4)
    assert sampler_from_json(sampler.to_json()) == sampler
    changed = sampler.override(factor=2, steps=9)
    assert (changed.factor, changed.sampler.steps) == (2, 9)
    with pytest.raises(CallError, match="4×8 pixels do not fall into blocks of 3×3"):
        sampler.override(factor=3)
    with pytest.raises(CallError, match="no option 'stpes'"):
        sampler.override(stpes=3)
    with pytest.raises(CallError, match="around a diffusion sampler"):
        sampler_from_json({**sampler.to_json(), "sampler": OneShot().to_json()})
