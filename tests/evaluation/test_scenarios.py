"""Metrics of generated series: closed forms of autoregressions, sines and noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError, DataSpec, Real, ValueSpec
from niwaki.data import Dataset, Split
from niwaki.evaluation.measures import measures
from niwaki.evaluation.metrics.scenarios import (
    autocorrelation_distance,
    discriminative_score,
    predictive_score,
    spectrum_distance,
)
from niwaki.evaluation.sample_measures import SAMPLE_MEASURES
from niwaki.evaluation.sample_sets import SampleSets

ALL = (autocorrelation_distance, spectrum_distance, discriminative_score, predictive_score)
NAMES = tuple(metric.__name__ for metric in ALL)


def noise(n: int, steps: int = 16, seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, channels, steps))


def autoregression(n: int, phi: float, steps: int = 16, seed: int = 0) -> np.ndarray:
    e = noise(n, steps, seed)
    x = np.empty_like(e)
    x[..., 0] = e[..., 0]
    for t in range(1, steps):
        x[..., t] = phi * x[..., t - 1] + math.sqrt(1 - phi**2) * e[..., t]
    return x


def test_autocorrelations_of_a_process_of_one_step() -> None:
    """r(lag) = φ^lag, and of noise 0: the mean of |φ|^lag over the lags."""
    found = autocorrelation_distance(autoregression(20_000, 0.7), noise(20_000, seed=1))
    assert found.value == pytest.approx(np.mean(0.7 ** np.arange(1, 9)), abs=0.01)
    assert autocorrelation_distance(noise(50), noise(50)).value == 0
    # What is the same at another unit hangs together alike.
    assert autocorrelation_distance(noise(50), 5 * noise(50) + 3).value == pytest.approx(0, abs=1e-12)


def test_sines_of_other_frequencies_share_no_power() -> None:
    t = np.arange(32)
    phase = np.random.default_rng(0).uniform(0, 6, (10, 1, 1))
    waves = {k: np.sin(2 * np.pi * k * t / 32 + phase) for k in (3, 5)}
    assert spectrum_distance(waves[3], waves[5]).value == pytest.approx(1.0)
    assert spectrum_distance(waves[3], 4 * waves[3] + 1).value == pytest.approx(0.0, abs=1e-12)
    both = (waves[3] + waves[5]) / 2
    assert spectrum_distance(waves[3], both).value == pytest.approx(0.5)
    assert spectrum_distance(waves[3], np.ones_like(both)).value == pytest.approx(1.0)


@pytest.mark.slow
def test_a_network_tells_apart_what_differs_and_nothing_else() -> None:
    same = discriminative_score(noise(400), noise(400, seed=1))
    assert same.value < 0.1
    assert same.interval is not None
    assert same.interval[0] == 0
    off = discriminative_score(noise(400), noise(400, seed=1) + 4.0)
    assert off.value > 0.48
    assert off.interval is not None
    assert off.interval[0] <= off.value <= off.interval[1] <= 0.5
    ordered = discriminative_score(autoregression(400, 0.95), noise(400, seed=1))
    assert ordered.value > 0.4, "values are alike, their order is not"
    assert same == discriminative_score(noise(400), noise(400, seed=1))


@pytest.mark.slow
def test_what_is_predicted_is_what_the_generated_series_teach() -> None:
    """Of noise nothing: E|x| = √(2/π). Of an autoregression √(1 − φ²) of that, if series of it were seen."""
    real = autoregression(600, 0.9)
    alone = math.sqrt(2 / math.pi)
    good = predictive_score(real, autoregression(600, 0.9, seed=1)).value
    assert good == pytest.approx(alone * math.sqrt(1 - 0.81), abs=0.04)
    assert predictive_score(real, noise(600, seed=1)).value == pytest.approx(alone, abs=0.06)
    still = np.repeat(noise(600, 1, seed=2), 16, axis=2)  # the last value again
    assert predictive_score(real, still).value == pytest.approx(alone * math.sqrt(2 * (1 - 0.9)), abs=0.06)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n.endswith("score") else []) for n in NAMES]
)
def test_they_are_registered_with_training_series_as_floor(name: str) -> None:
    assert measures()[name].better == "lower"
    spec = DataSpec({"x": ValueSpec("series", (2, 8), "CT", Real(-math.inf, math.inf))})
    parts = [Split.of(spec, torch.from_numpy(noise(60, 8, seed, 2)).float()) for seed in (1, 2, 3)]
    dataset = Dataset("noise", spec, *parts, fingerprint="1" * 64)
    row = next(row for row in SAMPLE_MEASURES if name in row.kinds)
    assert row.lacks(spec, False) == ""
    assert "looks at series" in row.lacks(DataSpec.of("image", (1, 8, 8)), False)
    found = row.compute(SampleSets(noise(60, 8, 9, 2).astype(np.float32), None, dataset, np.arange(60), ()))
    ideal = row.compute(SampleSets(parts[0].x.numpy(), None, dataset, np.arange(60), ()))
    assert found[name].floor == pytest.approx(ideal[name].value)


@pytest.mark.parametrize("metric", ALL, ids=NAMES)
def test_constant_series_and_wrong_shapes(metric: object) -> None:
    still = np.ones((30, 2, 8))
    assert metric(still, still).value == pytest.approx(0, abs=0.5)  # type: ignore[operator]
    with pytest.raises(CallError, match="of one shape"):
        metric(noise(30), noise(30, 8))  # type: ignore[operator]
    with pytest.raises(CallError, match="too short"):
        metric(noise(30, 3), noise(30, 3))  # type: ignore[operator]
