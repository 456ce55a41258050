"""The judge `forecast`: closed forms of the scores, and verdicts on forecasters of a known process."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.toy_runners import Toy, one_shot

from niwaki.core.contract import CallError, DataSpec, Real, ValueSpec
from niwaki.data import Dataset, Split
from niwaki.evaluation.judges import Margins, Tools, judges_for
from niwaki.evaluation.judges.forecast import PATHS, Forecast
from niwaki.evaluation.metrics.forecasts import (
    crps_ensemble,
    crps_normal,
    estimate_season,
    naive_forecast,
    pinball,
)

PAST, FUTURE, SEASON = 24, 8, 6
X = ValueSpec("series", (1, FUTURE), "CT", Real(-20.0, 20.0))
BEFORE = ValueSpec("series", (1, PAST), "CT", Real(-20.0, 20.0))
NOISE = 0.5


def test_fair_crps_is_the_double_sum_and_unbiased() -> None:
    rng = np.random.default_rng(0)
    paths, truth = rng.normal(size=(3, 7, 2)), rng.normal(size=(3, 2))
    slow = np.abs(paths - truth[:, None]).mean(1)
    slow -= np.abs(paths[:, :, None] - paths[:, None]).sum((1, 2)) / (2 * 7 * 6)
    np.testing.assert_allclose(crps_ensemble(paths, truth), slow)
    np.testing.assert_allclose(crps_ensemble(paths[:, :1], truth), np.abs(paths[:, 0] - truth))
    # Unbiased at any number of draws: the mean over many small ensembles is the formula of a normal.
    many = crps_ensemble(rng.normal(size=(40_000, 3)), np.full(40_000, 0.7))
    assert many.mean() == pytest.approx(float(crps_normal(0.0, 1.0, np.array(0.7))), abs=0.01)


def test_crps_of_a_normal_is_the_integral() -> None:
    """∫ (F(t) − 1[t ≥ y])² dt."""
    t = np.linspace(-12, 14, 200_001)
    mu, sigma, y = 0.4, 1.7, 2.2
    cdf = np.array([0.5 * (1 + math.erf((v - mu) / (sigma * math.sqrt(2)))) for v in t])
    integral = np.trapezoid((cdf - (t >= y)) ** 2, t)
    assert float(crps_normal(np.array(mu), np.array(sigma), np.array(y))) == pytest.approx(integral, abs=1e-4)
    # At its own mean: σ (√2 − 1)/√π.
    at_mean = float(crps_normal(np.array(0.0), np.array(2.0), np.array(0.0)))
    assert at_mean == pytest.approx(2 * (math.sqrt(2) - 1) / math.sqrt(math.pi))


def test_pinball_is_least_at_the_quantile_and_half_the_error_at_the_median() -> None:
    y = np.random.default_rng(0).normal(size=20_001)
    for level in (0.1, 0.5, 0.9):
        at = np.quantile(y, level)
        losses = [pinball(np.full_like(y, q), y, level).mean() for q in (at - 0.05, at, at + 0.05)]
        assert min(losses) == losses[1]
    np.testing.assert_allclose(pinball(np.zeros(3), np.array([1.0, -2, 3]), 0.5), [0.5, 1.0, 1.5])
    with pytest.raises(CallError, match="between 0 and 1"):
        pinball(y, y, 1.0)


def test_naive_forecasts_repeat_the_last_season() -> None:
    past = np.array([[1.0, 2, 3, 11, 12, 13]])
    mean, deviation = naive_forecast(past, 5, 3)
    np.testing.assert_array_equal(mean, [[11, 12, 13, 11, 12]])
    np.testing.assert_allclose(deviation, 10 * np.sqrt([[1, 1, 1, 2, 2]]))
    last, _ = naive_forecast(past, 2, 1)
    np.testing.assert_array_equal(last, [[13, 13]])
    with pytest.raises(CallError, match="no two seasons"):
        naive_forecast(past, 2, 6)


def test_the_season_is_found_in_noise_and_none_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(60)
    phase = rng.uniform(0, 6, (50, 1, 1))
    waves = np.sin(2 * np.pi * (t / 12 + phase)) + 0.5 * rng.normal(size=(50, 1, 60))
    assert estimate_season(waves) == 12
    assert estimate_season(rng.normal(size=(50, 60))) == 1
    assert estimate_season(rng.normal(size=(50, 60)).cumsum(1)) == 1
    assert estimate_season(np.ones((3, 60))) == 1


def series(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A season of its own for each, repeated with noise: the best forecast is the mean of the seasons."""
    rng = np.random.default_rng([seed, 5])
    season = 2 * rng.normal(size=(n, 1, SEASON))
    season -= season.mean(-1, keepdims=True)
    whole = np.tile(season, (1, 1, 6))[..., : PAST + FUTURE] + NOISE * rng.normal(size=(n, 1, PAST + FUTURE))
    return whole[..., :PAST].astype(np.float32), whole[..., PAST:].astype(np.float32)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    spec = DataSpec({"x": X, "past": BEFORE})
    parts = []
    for n, seed in ((300, 1), (150, 2), (200, 3)):
        past, future = series(n, seed)
        parts.append(Split.of(spec, torch.from_numpy(future), past=torch.from_numpy(past)))
    return Dataset("waves", spec, *parts, fingerprint="6" * 64)


def forecaster(shift: float = 0.0, spread: float = 1.0) -> Toy:
    """Normal around the mean of the past's seasons; what the mean does not know is part of the spread."""
    deviation = spread * NOISE * math.sqrt(1 + SEASON / PAST)

    def forecast(z: np.ndarray, past: np.ndarray) -> np.ndarray:
        mean = past.reshape(len(past), 1, -1, SEASON).mean(2)
        return np.tile(mean, (1, 1, 2))[..., :FUTURE] + shift + deviation * z

    programs = {
        "sample": one_shot("make", X, (1, FUTURE)),
        "forecast": one_shot("forecast", X, (1, FUTURE), past=BEFORE),
    }
    return Toy(programs, {"make": lambda z: z, "forecast": forecast})


def judge() -> Forecast:
    return Forecast(Tools(list))


def test_a_forecaster_that_knows_the_process_is_calibrated_and_beats_the_naive(dataset: Dataset) -> None:
    assert "forecast" in [j.name for j in judges_for(forecaster(), dataset, Tools(list))]
    evidence = judge().evidence(forecaster(), dataset, "test", 1000, 0)
    assert evidence.arrays["paths"].shape == (200, PATHS, 1, FUTURE)
    section = judge().evaluate(evidence, dataset)
    by_name = {f.name: f for f in section.figures}
    # E CRPS of a calibrated normal: σ/√π.
    expected = NOISE * math.sqrt(1 + SEASON / PAST) / math.sqrt(math.pi)
    low, high = by_name["CRPS"].interval or (0, 0)
    assert low - 0.005 < expected < high + 0.005
    assert section.details["season"] == SEASON
    assert by_name["CRPS"].value < by_name["CRPS"].reference < section.details["naive"]["last"]["crps"]
    assert by_name["coverage of the 80 % interval"].value == pytest.approx(0.8, abs=0.04)
    assert len(section.details["by_step"]) == FUTURE
    assert all(m["kind"] == "plot" for e in section.details["exhibits"] for m in e["media"])
    captions = [e["caption"] for e in section.details["exhibits"]]
    assert captions[0].startswith("Test series 0:"), "places spread evenly over the split, the worst one last"
    assert any(c.startswith("Test series 199:") for c in captions)
    assert captions[-1].startswith("The worst of all")
    assert not section.notes
    json.dumps(section.to_json(), allow_nan=False)


def test_planted_damage_is_found_on_its_own_axis(dataset: Dataset) -> None:
    one = judge()
    margins: Any = one.margins(one.evidence(forecaster(), dataset, "validation", 1000, 0), dataset, 200)
    margins = Margins.from_json(json.loads(json.dumps(margins.to_json())))
    before = one.evidence(forecaster(), dataset, "test", 1000, 0)
    same = one.compare(before, one.evidence(forecaster(), dataset, "test", 1000, 0), margins, dataset)
    assert {v.outcome for v in same.axes.values()} == {"no loss"}
    off = one.compare(before, one.evidence(forecaster(shift=1.0), dataset, "test", 1000, 0), margins, dataset)
    assert off.axes["fidelity"].outcome == "loss"
    assert off.arrays["rise"].mean() == pytest.approx(off.axes["fidelity"].delta)
    narrow = one.compare(
        before, one.evidence(forecaster(spread=0.5), dataset, "test", 1000, 0), margins, dataset
    )
    assert narrow.axes["diversity"].outcome == "loss"
    assert narrow.axes["fidelity"].outcome != "loss"
    slight = one.compare(
        before, one.evidence(forecaster(shift=0.01), dataset, "test", 1000, 0), margins, dataset
    )
    assert {v.outcome for v in slight.axes.values()} == {"no loss"}
    json.dumps(off.to_json(), allow_nan=False)


def test_a_point_forecast_has_no_margin_of_diversity(dataset: Dataset) -> None:
    one = judge()
    margins = one.margins(one.evidence(forecaster(spread=0), dataset, "validation", 1000, 0), dataset, 200)
    assert margins.axes["diversity"]["value"] == 0
    section = one.evaluate(one.evidence(forecaster(spread=0), dataset, "test", 1000, 0), dataset)
    assert section.figures[0].value == pytest.approx(
        NOISE * math.sqrt(1 + SEASON / PAST) * math.sqrt(2 / math.pi), abs=0.03
    )


def test_what_was_not_measured_is_not_scored() -> None:
    """Whatever stands there: the scores are those of the other values alone."""
    past, future = series(40, 7)
    mask = np.ones_like(future)
    mask[::2, :, 3:] = 0.0
    spec = DataSpec(
        {"x": X, "past": BEFORE, "x_mask": ValueSpec("series", (1, FUTURE), "CT", Real(0.0, 1.0))}
    )

    def section(garbage: float) -> Any:
        x = torch.from_numpy(np.where(mask > 0, future, garbage).astype(np.float32))
        part = Split.of(spec, x, past=torch.from_numpy(past), x_mask=torch.from_numpy(mask))
        data = Dataset("gaps", spec, part, part, part, fingerprint="7" * 64)
        evidence = judge().evidence(forecaster(), data, "test", 40, 0)
        return judge().evaluate(evidence, data), evidence.arrays["paths"]

    (first, paths), (second, _) = section(0.0), section(15.0)
    assert [f.value for f in first.figures] == [f.value for f in second.figures]
    each = crps_ensemble(paths, future)[:, 0]
    wanted = np.mean([row[m > 0].mean() for row, m in zip(each, mask[:, 0], strict=True)])
    assert first.figures[0].value == pytest.approx(wanted)
    assert len(first.details["by_step"]) == FUTURE
    json.dumps(first.to_json(), allow_nan=False)
