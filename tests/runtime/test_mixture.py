"""A mixture of samplers: which member makes a sample, and that nothing else about the sample depends on
it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.backend import TorchBackend
from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import (
    Cascade,
    Diffusion,
    Mixture,
    Noise,
    NumpyBackend,
    OneShot,
    sampler_from_json,
)

THREE = Mixture(tuple(OneShot((4,), f"g{k}", ("class",)) for k in range(3)))


def graph(k: int) -> Any:
    """100 k + class + z, so that a sample tells who made it of what."""

    def call(z: Any, y: Any) -> Any:
        return z + (100.0 * k + y)[:, None]

    return call


GRAPHS = {f"g{k}": graph(k) for k in range(3)}


def made(start: int, n: int, seed: int = 0) -> np.ndarray:
    y = np.arange(start, start + n) % 10
    return THREE(GRAPHS, Noise(NumpyBackend(), seed, start, n), {"class": y})


def test_every_sample_is_its_members_and_in_its_place() -> None:
    noise = Noise(NumpyBackend(), 0, 0, 64)
    chosen, y = THREE.chosen(noise), np.arange(64) % 10
    assert set(chosen.tolist()) == {0, 1, 2}
    np.testing.assert_allclose(made(0, 64), noise.normal((4,)) + (100 * chosen + y)[:, None], rtol=1e-6)


@pytest.mark.parametrize("members", [1, 2, 3, 5, 8])
def test_members_are_equally_likely_and_independent_of_the_latents(members: int) -> None:
    mixture = Mixture(tuple(OneShot((2,), "g") for _ in range(members)))
    noise = Noise(NumpyBackend(), 3, 0, 20_000)
    chosen = mixture.chosen(noise)
    shares = np.bincount(chosen, minlength=members) / len(chosen)
    assert np.abs(shares - 1 / members).max() < 0.015
    z = noise.normal((2,))
    assert all(np.abs(z[chosen == k].mean(0)).max() < 0.06 for k in range(members))


@pytest.mark.parametrize("cut", [1, 7, 32])
def test_a_sample_does_not_depend_on_the_batch_that_it_is_made_in(cut: int) -> None:
    together = made(0, 64)
    apart = np.concatenate([made(at, min(cut, 64 - at)) for at in range(0, 64, cut)])
    np.testing.assert_array_equal(together, apart)


def test_torch_and_numpy_make_the_same() -> None:
    y = np.arange(20) % 10
    here = THREE(GRAPHS, Noise(TorchBackend(), 5, 4, 20), {"class": torch.from_numpy(y)})
    there = THREE(GRAPHS, Noise(NumpyBackend(), 5, 4, 20), {"class": y})
    np.testing.assert_allclose(here.numpy(), there, rtol=1e-5)


def test_members_may_be_cascades_and_see_the_draws_that_they_would_see_alone() -> None:
    member = Cascade((OneShot((3,), "prior"), OneShot(None, "decoder", ("code",))), ("code",))
    graphs = {"prior": lambda z: z, "decoder": lambda code: 2 * code}
    noise = Noise(NumpyBackend(), 1, 0, 30)
    alone = member(graphs, noise, {})
    np.testing.assert_array_equal(Mixture((member, member))(graphs, noise, {}), alone)


def test_it_tells_what_its_members_are_and_their_progress() -> None:
    told: list[tuple[int, int]] = []
    THREE(
        GRAPHS,
        Noise(NumpyBackend(), 0, 0, 4),
        {"class": np.zeros(4)},
        progress=lambda i, n: told.append((i, n)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert THREE.graphs_used() == ("g0", "g1", "g2")
    assert THREE.conditions_used() == ("class",)
    assert THREE.parts() == THREE.members
    assert THREE.evaluations() == 1
    assert (
        Mixture((Diffusion((2,), steps=7), OneShot((2,)))).evaluations()
        == Diffusion((2,), steps=7).evaluations()
    )


def test_options_are_changed_in_the_members_that_have_them() -> None:
    changed = THREE.override(temperature=0.5)
    assert [m.temperature for m in changed.members] == [0.5] * 3  # type: ignore[attr-defined]
    assert THREE.override() is THREE
    with pytest.raises(CallError, match="no member of this mixture has an option 'temprature'; did you mean"):
        THREE.override(temprature=1.0)


def test_json_there_and_back_and_what_is_no_mixture() -> None:
    assert sampler_from_json(json.loads(json.dumps(THREE.to_json()))) == THREE
    with pytest.raises(CallError, match="at least one member"):
        sampler_from_json({"kind": "mixture", "members": []})
    with pytest.raises(CallError, match="cannot be projected"):
        THREE(GRAPHS, Noise(NumpyBackend(), 0, 0, 4), {"class": np.zeros(4)}, project=lambda x, t, d: x)
