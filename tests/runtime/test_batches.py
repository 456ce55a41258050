"""Batches of samples that have nothing in common: each is what it is alone, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from niwaki_runtime import load
from niwaki_runtime.batches import alike, run_batch
from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import Autoregressive, Cascade, MixedNoise, Mixture, Noise, NumpyBackend, OneShot
from niwaki_runtime.specs import resolve

SAMPLES = [(7, 0), (7, 1), (3, 5), (7, 2), (-4, 0), (3, 6)]


@pytest.mark.parametrize(("shape", "draw"), [((3,), 0), ((2, 5), 4), ((), 1)])
def test_mixed_noise_is_that_of_each_sample(shape: tuple[int, ...], draw: int) -> None:
    mixed = MixedNoise.mixed(NumpyBackend(), tuple(SAMPLES))
    single = [Noise(NumpyBackend(), seed, i, 1) for seed, i in SAMPLES]
    np.testing.assert_array_equal(
        mixed.normal(shape, draw=draw), np.concatenate([one.normal(shape, draw=draw) for one in single])
    )
    np.testing.assert_array_equal(
        mixed.uniform(4, draw=draw), np.concatenate([one.uniform(4, draw=draw) for one in single])
    )
    for i, one in enumerate(single):
        np.testing.assert_array_equal(mixed.of(i).normal(shape), one.normal(shape))


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("kind", ["one_shot", "diffusion", "autoregressive"])
def test_a_sample_in_a_mixed_batch_is_the_sample_alone(
    bundle: Callable[[str], Path], kind: str, engine: str
) -> None:
    model = load(bundle(kind), engine=engine, precision="exact")
    specs = model.program("sample").inputs
    rows = [resolve(specs, None, i, 1) for _, i in SAMPLES]
    inputs = {name: np.concatenate([row[name] for row in rows]) for name in specs}
    made = run_batch(model, "sample", SAMPLES, inputs, size=8)
    alone = [model.run("sample", 1, seed=seed, start=i) for seed, i in SAMPLES]
    np.testing.assert_allclose(made, np.concatenate(alone), rtol=0, atol=1e-6)


def test_a_batch_that_is_too_small_is_refused(bundle: Callable[[str], Path]) -> None:
    model = load(bundle("autoregressive"))
    with pytest.raises(CallError, match=r"takes 1 … 2 samples, not 3"):
        run_batch(model, "sample", [(0, 0), (0, 1), (0, 2)], {}, size=2)


def test_samples_whose_prompts_differ_in_length_are_not_made_together() -> None:
    sampler = Autoregressive(length=6, prompt="prompt")
    prompts = np.array([[1, 2, -1], [3, -1, -1], [2, 2, -1]])
    noise = MixedNoise.mixed(NumpyBackend(), ((0, 0), (1, 0), (2, 0)))
    assert sampler.alike(noise, {"prompt": prompts}) == [2, 1, 2]
    assert Cascade((sampler, OneShot()), ("x",)).alike(noise, {"prompt": prompts}) == [
        (2, ()),
        (1, ()),
        (2, ()),
    ]


def test_samples_of_several_members_are_not_made_together() -> None:
    mixture = Mixture((OneShot(latent=(2,)), OneShot(latent=(2,), graph="other")))
    noise = MixedNoise.mixed(NumpyBackend(), tuple((seed, 0) for seed in range(20)))
    keys = mixture.alike(noise, {})
    assert [key[0] for key in keys] == mixture.chosen(noise).tolist()  # type: ignore[index]
    assert len(set(keys)) == 2


def test_keys_follow_the_options(bundle: Callable[[str], Path]) -> None:
    model = load(bundle("autoregressive"))
    assert alike(model, "sample", [(0, 0), (5, 1)], {}, temperature=0.5) == [(), ()]
    with pytest.raises(CallError, match="no option 'temperatur'"):
        alike(model, "sample", [(0, 0)], {}, temperatur=0.5)
