"""Small pictures made large: what the denoiser is given of them, and the level of their noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import Karras, LinearPath, Process, VariancePreserving
from niwaki_runtime.samplers import (
    Cascade,
    Diffusion,
    Noise,
    NoiseConditioned,
    NumpyBackend,
    sampler_from_json,
)

SHAPE, SMALL = (2, 4, 6), (2, 2, 3)
LOW = np.random.default_rng(0).uniform(-1, 1, (3, *SMALL)).astype(np.float32)
PATHS: list[Process] = [VariancePreserving(), Karras(), LinearPath()]


class Told:
    """A denoiser that says what it is given of the small picture, enlarged."""

    state = ()

    def __init__(self) -> None:
        self.given: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, x: np.ndarray, t: np.ndarray, level: np.ndarray, low: np.ndarray) -> np.ndarray:
        self.given.append((level, low))
        return low.repeat(2, axis=2).repeat(2, axis=3)


def sampler(process: Process = PATHS[0], **changes: Any) -> NoiseConditioned:
    inner = Diffusion(
        shape=SHAPE, steps=4, process=process, prediction="x0", clip=0.0, conditions=("level", "low")
    )
    return NoiseConditioned(inner, **{"small": SMALL, "factor": 2, **changes})


def run(asked: Any, given: Mapping[str, np.ndarray], network: Any = None, start: int = 0) -> np.ndarray:
    n = len(next(iter(given.values())))
    noise = Noise(NumpyBackend(), 5, start, n)
    made: np.ndarray = asked({"denoiser": network or Told()}, noise, given)
    return made


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
@pytest.mark.parametrize("level", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_the_denoiser_is_given_the_picture_with_noise_of_the_level_that_it_is_told(
    process: Process, level: float
) -> None:
    network = Told()
    run(sampler(process, augmentation=level), {"low": LOW}, network)
    eps = Noise(NumpyBackend(), 5, 0, 3).normal(SMALL, stream="condition")
    assert len(network.given) == 4
    for told, low in network.given:
        np.testing.assert_array_equal(told, np.full(3, level, np.float32))
        np.testing.assert_allclose(low, math.sqrt(1 - level**2) * LOW + level * eps, atol=1e-6)


def test_at_level_0_it_is_given_the_picture_itself() -> None:
    network = Told()
    made = run(sampler(), {"low": LOW}, network)
    assert all(np.array_equal(low, LOW) for _, low in network.given)
    np.testing.assert_allclose(made, LOW.repeat(2, axis=2).repeat(2, axis=3), atol=1e-5)


def test_of_pictures_of_full_size_the_means_of_blocks_are_taken() -> None:
    large = np.random.default_rng(1).uniform(-1, 1, (3, *SHAPE)).astype(np.float32)
    network = Told()
    run(sampler(known="known"), {"known": large}, network)
    means = large.reshape(3, 2, 2, 2, 3, 2).mean((3, 5))
    np.testing.assert_allclose(network.given[0][1], means, atol=1e-6)


def test_the_noise_of_a_sample_is_its_own() -> None:
    asked = sampler(augmentation=0.5)
    whole = run(asked, {"low": LOW})
    np.testing.assert_array_equal(run(asked, {"low": LOW[1:]}, start=1), whole[1:])
    assert not np.allclose(run(asked, {"low": LOW[:1].repeat(2, axis=0)})[0], whole[1], atol=1e-3)


def test_it_lies_behind_a_base_in_a_cascade_and_in_json() -> None:
    asked = sampler(augmentation=0.2)
    assert sampler_from_json(asked.to_json()) == asked
    assert asked.conditions_used() == ("low",)
    assert asked.evaluations() == 4
    base = Diffusion(shape=SMALL, graph="base", steps=4, prediction="x0")
    whole = Cascade((base, asked), ("low",))
    assert sampler_from_json(whole.to_json()) == whole
    assert whole.conditions_used() == ()
    assert whole.override(augmentation=0.4, steps=2).legs[1].augmentation == 0.4
    graphs = {"base": lambda x, t: 0.5 * x, "denoiser": Told()}
    noise = Noise(NumpyBackend(), 5, 0, 3)
    small = base(graphs, noise, {})
    network = graphs["denoiser"]
    whole.override(augmentation=0.0)(graphs, noise, {})
    assert np.array_equal(network.given[0][1], small)  # the base's own pictures, to the bit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": 1.5}, "level of noise"),
        ({"augmentation": -0.1}, "level of noise"),
        ({"factor": 3}, "not how often"),
        ({"small": (2, 4, 6)}, "not how often"),
        ({"small": (2, 2)}, "not how often"),
        ({"small": (2, 0, 3)}, "no sample has it"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError, match=message):
        sampler(**changes)
