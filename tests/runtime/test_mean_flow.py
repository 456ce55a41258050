"""Sampling by average velocities: one call per step, on tensors and arrays alike."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from niwaki.core.backend import TorchBackend
from niwaki_runtime.errors import CallError
from niwaki_runtime.process import END
from niwaki_runtime.samplers import MeanFlow, Noise, NumpyBackend, sampler_from_json


def velocity(x: np.ndarray, t: np.ndarray, r: np.ndarray, label: np.ndarray) -> np.ndarray:
    return 0.5 * x + (t + 2.0 * r + label.astype(np.float32))[:, None]


LABEL = np.array([0, 1, 2, 0, 1])


def run(sampler: MeanFlow, n: int = 5, first: int = 0, **options: object) -> np.ndarray:
    graphs, label = {"average_velocity": velocity}, {"label": LABEL[first : first + n]}
    return sampler(graphs, Noise(NumpyBackend(), 4, first, n), label, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_each_step_subtracts_its_length_times_the_average_velocity(steps: int) -> None:
    sampler = MeanFlow((3,), steps=steps, conditions=("label",), clip=0.0)
    x = Noise(NumpyBackend(), 4, 0, 5).normal((3,))
    for k in range(steps, 0, -1):
        t, r = (np.full(5, i / steps, np.float32) for i in (k, k - 1))
        x = x - velocity(x, t, r, LABEL) / steps
    np.testing.assert_allclose(run(sampler), x, atol=1e-5)
    assert sampler.evaluations() == steps


@pytest.mark.parametrize("steps", [1, 4])
def test_numpy_and_torch_agree_and_the_batch_does_not_matter(steps: int) -> None:
    sampler = MeanFlow((3,), steps=steps, conditions=("label",))
    there = run(sampler)
    here = sampler(
        {"average_velocity": lambda *given: torch.from_numpy(velocity(*(g.numpy() for g in given)))},
        Noise(TorchBackend(), 4, 0, 5),
        {"label": torch.from_numpy(LABEL)},
    )
    assert there.dtype == np.float32
    np.testing.assert_allclose(there, here.numpy(), atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([run(sampler, 2), run(sampler, 3, 2)]), there)
    assert np.abs(there).max() <= 1.0


def test_it_tells_its_progress_and_hands_over_where_it_is() -> None:
    told, times = [], []

    def project(x: np.ndarray, t: float, draw: int) -> np.ndarray:
        times.append(t)
        return x

    sampler = MeanFlow((3,), steps=4, conditions=("label",))
    run(sampler, progress=lambda done, total: told.append((done, total)), project=project)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert times == [0.75, 0.5, 0.25, END]


def test_it_round_trips_through_json() -> None:
    sampler = MeanFlow((1, 8, 8), steps=2, conditions=("class",), clip=0.0)
    assert sampler_from_json(json.loads(json.dumps(sampler.to_json()))) == sampler
    assert sampler.graphs_used() == ("average_velocity",)
    with pytest.raises(CallError, match="at least one step"):
        sampler.override(steps=0)
    with pytest.raises(CallError, match="did you mean 'steps'"):
        sampler.override(step=2)
