"""Calibration sees what sampling shows: every timestep, every class, the model's own tokens; and the same
every time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from compression import small_models

from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.seeds import CALIBRATION
from niwaki_runtime.process.schedules import timesteps


def test_diffusion_is_seen_at_every_timestep_and_every_class() -> None:
    model = small_models.ddpm()
    seen = calibration_inputs(model, 120)["denoiser"]
    assert len(seen) == 120
    times = Counter(float(s["t"][0]) for s in seen)
    assert times == {float(t): 20 for t in timesteps("trailing", 1000, 6)}
    for t in times:
        assert len({int(s["class"][0]) for s in seen if s["t"][0] == t}) == 10
    assert seen[0]["x"].shape == (1, 1, 8, 8)
    assert len({s["x"].tobytes() for s in seen}) == 120  # no input twice


def test_they_are_the_inputs_of_real_trajectories() -> None:
    """The first step's inputs are the sampler's own noise; the others come from the network's own outputs."""
    model = small_models.ddpm().eval()
    seen = calibration_inputs(model, 60, seed=4)["denoiser"]
    first = max(float(s["t"][0]) for s in seen)
    from niwaki_runtime.noise import normal

    noise = normal(CALIBRATION + 4, 0, 64, (1, 8, 8))
    rows = {x.tobytes() for x in noise}
    starts = [s["x"][0].tobytes() for s in seen if s["t"][0] == first]
    assert len(starts) == 10
    assert all(s in rows for s in starts)
    assert not any(s["x"][0].tobytes() in rows for s in seen if s["t"][0] != first)


def test_a_gan_is_seen_over_latents_and_classes_alike() -> None:
    seen = calibration_inputs(small_models.gan(), 200)["generator"]
    z = np.concatenate([s["z"] for s in seen])
    assert z.shape == (200, 12)
    assert abs(float(z.mean())) < 0.1
    assert abs(float(z.std()) - 1.0) < 0.1
    assert set(Counter(int(s["class"][0]) for s in seen).values()) == {20}


def test_an_autoregressive_model_is_seen_on_its_own_tokens_and_state() -> None:
    model = small_models.recurrent().eval()
    seen = calibration_inputs(model, 50)["decode"]
    assert Counter(int(s["position"][0]) for s in seen) == dict.fromkeys(range(5), 10)
    for s in seen:
        started = int(s["position"][0]) > 0
        assert (int(s["token"][0]) < 7) == started  # 7 stands before the first token
        assert bool(np.any(s["hidden"])) == started
    late = next(s for s in seen if s["position"][0] == 1)
    first = model.cell(torch.tensor([7]), torch.tensor([0]), torch.zeros(1, 16))[1]
    np.testing.assert_allclose(late["hidden"], first.detach().numpy(), rtol=1e-5)


def test_calibration_is_the_same_every_time_and_apart_from_evaluation() -> None:
    model = small_models.gan()
    one, two = (calibration_inputs(model, 32, seed=1)["generator"] for _ in range(2))
    assert all(np.array_equal(a["z"], b["z"]) for a, b in zip(one, two, strict=True))
    other = calibration_inputs(model, 32, seed=2)["generator"]
    assert not np.array_equal(one[0]["z"], other[0]["z"])
    assert CALIBRATION > 2**32


def test_the_model_is_left_as_it_was() -> None:
    model = small_models.gan().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    calibration_inputs(model, 16)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
