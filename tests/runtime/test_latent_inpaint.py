"""Inpainting in latents: known pixels come out exactly, and nothing of the unknown ones goes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import Karras, LinearPath, Process, VariancePreserving
from niwaki_runtime.samplers import Diffusion, Inpaint, LatentInpaint, Noise, NumpyBackend, sampler_from_json
from niwaki_runtime.samplers.latent_inpaint import filled

RNG = np.random.default_rng(0)
KNOWN = RNG.uniform(-1, 1, (3, 1, 8, 8)).astype(np.float32)
MASK = np.ones((3, 1, 8, 8), np.float32)
MASK[0, :, :3, 1:6], MASK[1, :, 5, 5], MASK[2, :, :, 4:] = 0.0, 0.0, 0.0
PATHS = [VariancePreserving(), Karras(), LinearPath()]


def still(x: Any, t: Any) -> Any:
    return 0.3 * x


def pooled(x: Any) -> Any:
    """An encoder that forgets: means of 2×2 pixels."""
    return x.reshape((len(x), 1, 4, 2, 4, 2)).mean((-3, -1))


def repeated(z: Any) -> Any:
    return z.repeat(2, -2).repeat(2, -1)


def same(x: Any) -> Any:
    return x


def run(sampler: Any, known: np.ndarray = KNOWN, mask: np.ndarray = MASK, small: bool = True) -> np.ndarray:
    graphs = {"denoiser": still, "encoder": pooled if small else same, "decoder": repeated if small else same}
    made: np.ndarray = sampler(graphs, Noise(NumpyBackend(), 5, 0, 3), {"known": known, "mask": mask})
    return made


def plan(process: Process, side: int = 4) -> Diffusion:
    return Diffusion(shape=(1, side, side), steps=6, process=process, prediction="x0", clip=0.0)


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
@pytest.mark.parametrize("repeats", [1, 3])
def test_known_pixels_are_exact_and_unknown_ones_are_never_read(process: Process, repeats: int) -> None:
    sampler = LatentInpaint(plan(process), repeats=repeats)
    made = run(sampler)
    assert np.array_equal(made[MASK == 1], KNOWN[MASK == 1])
    assert np.isfinite(made).all()
    other = np.where(MASK == 1, KNOWN, 77.0).astype(np.float32)
    assert np.array_equal(run(sampler, known=other), made)
    assert np.array_equal(run(sampler, mask=np.ones_like(MASK)), KNOWN)


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
@pytest.mark.parametrize("repeats", [1, 3])
def test_without_an_autoencoder_it_is_inpainting(process: Process, repeats: int) -> None:
    inner = plan(process, 8)
    found = run(LatentInpaint(inner, repeats=repeats), small=False)
    np.testing.assert_allclose(found, run(Inpaint(inner, repeats=repeats)), atol=1e-6)
    assert (
        LatentInpaint(inner, repeats=repeats).evaluations() == Inpaint(inner, repeats=repeats).evaluations()
    )


def test_with_nothing_known_it_is_the_sampler_and_its_decoder() -> None:
    made = run(LatentInpaint(plan(PATHS[0])), mask=np.zeros_like(MASK))
    sample = plan(PATHS[0])({"denoiser": still}, Noise(NumpyBackend(), 5, 0, 3), {})
    np.testing.assert_array_equal(made, repeated(sample))


def test_a_latent_is_held_where_all_of_its_pixels_are_known() -> None:
    """The decoder is given the encoder's latents there, and others where one pixel is unknown."""
    seen: list[np.ndarray] = []

    def decoder(z: np.ndarray) -> np.ndarray:
        seen.append(z)
        return repeated(z)  # type: ignore[no-any-return]

    graphs = {"denoiser": still, "encoder": pooled, "decoder": decoder}
    LatentInpaint(plan(PATHS[0]))(graphs, Noise(NumpyBackend(), 5, 0, 3), {"known": KNOWN, "mask": MASK})
    held, latents = MASK.reshape(3, 1, 4, 2, 4, 2).min((-3, -1)) == 1, pooled(KNOWN)
    np.testing.assert_allclose(seen[0][held], latents[held], atol=1e-6)
    filled_up = pooled(filled(np, KNOWN, MASK))
    assert (np.abs(seen[0] - filled_up)[~held] > 1e-3).all()


def test_what_is_unknown_is_filled_from_near_by() -> None:
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    mask = np.ones_like(x)
    mask[..., 0, 0] = 0  # of 1, 4 and 5
    mask[..., 2:, 2:] = 0  # of all others: a whole block is unknown
    found = filled(np, x, mask)
    assert np.array_equal(found[mask == 1], x[mask == 1])
    assert found[0, 0, 0, 0] == pytest.approx(10 / 3)
    assert found[0, 0, 3, 3] == pytest.approx(x[mask == 1].mean())
    assert np.array_equal(filled(np, x, np.zeros_like(x)), np.zeros_like(x))
    torch.testing.assert_close(filled(torch, torch.from_numpy(x), torch.from_numpy(mask)).numpy(), found)


def test_it_is_plain_data() -> None:
    sampler = LatentInpaint(plan(PATHS[2]), encoder="into", repeats=2)
    assert sampler_from_json(sampler.to_json()) == sampler
    assert sampler.graphs_used() == ("into", "denoiser", "decoder")
    assert sampler.override(repeats=4, steps=3).evaluations() == 12
    with pytest.raises(CallError, match="repeats must be at least 1"):
        LatentInpaint(repeats=0)
