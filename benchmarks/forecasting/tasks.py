"""Four real series with their windows: what every side is given, and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.data import DataConfig, Dataset, load
from niwaki.data.config import registered
from niwaki.data.reading.series_on_board import read_on_board
from niwaki.data.reading.windows import averaged
from niwaki.evaluation.metrics.forecasts import crps_ensemble, crps_normal

HISTORY = 260
"""Steps before a window that models of one series are fitted to, at most."""
PATHS = 100
Z80 = 1.2815515655446004
"""The 90 % quantile of the standard normal."""


@dataclass(frozen=True)
class Task:
    """
    data:   settings of the source `series`
    season: steps after which the series repeats itself
    unit:   of its values
    level:  setting of our model (`forecaster`), where validation wants it
    """

    name: str
    data: dict[str, Any]
    season: int
    unit: str
    level: int = 0

    @property
    def config(self) -> DataConfig:
        return DataConfig(source="series", **self.data)


TASKS = {
    task.name: task
    for task in (
        Task(
            "co2",
            {"name": "co2", "past": 104, "future": 26, "missing": "mask", "calendar": ["month"]},
            52,
            "ppm",
            level=8,
        ),
        Task("elnino", {"name": "elnino", "past": 48, "future": 12, "calendar": ["month"]}, 12, "°C"),
        Task("sunspots", {"name": "sunspots", "past": 22, "future": 8}, 11, "spots"),
        Task(
            "membrane",
            {"name": "membrane", "span": [0.75, 5.45], "every": 4, "past": 128, "future": 32},
            33,
            "mV",
        ),
    )
}


@dataclass(frozen=True)
class Windows:
    """Test windows at even places in time.

    truth:   `(n, T)`, NaN where nothing was measured
    history: what came before each, the past of the window at its end, gaps filled in by straight lines
    rows:    of the data set's test split, in the same order, as columns
    train:   the training block's values `(steps,)`, likewise filled in
    """

    truth: np.ndarray
    history: list[np.ndarray]
    rows: dict[str, np.ndarray]
    train: np.ndarray
    dataset: Dataset

    @property
    def steps(self) -> int:
        return self.truth.shape[1]


def windows(task: Task, count: int) -> Windows:
    """At most `count` windows of the test block, evenly over it."""
    config = task.config
    options, pool = config.options(), registered("series").read(config, config.options(), None)
    assert pool.assignment is not None
    assert pool.item_names is not None
    test = np.flatnonzero(pool.assignment == 2)
    chosen = test[np.unique(np.linspace(0, len(test) - 1, count).astype(int))]
    values = _values(task)
    history = []
    for i in chosen:
        end = int(pool.item_names[i].rsplit(" ", 1)[1]) + options.past * options.every
        before = averaged(values[end % options.every : end, None], options.every)[:, 0]
        history.append(_whole(before)[-HISTORY:])
    rows = {name: column.data[chosen].numpy() for name, column in pool.columns.items()}
    truth = rows["x"][:, 0].astype(np.float64)
    if "x_mask" in rows:
        truth = np.where(rows["x_mask"][:, 0] > 0, truth, np.nan)
    train = values[: round(len(values) * config.fractions[0])]
    return Windows(truth, history, rows, _whole(averaged(train[:, None], options.every)[:, 0]), load(config))


def _values(task: Task) -> np.ndarray:
    recording = read_on_board(task.data["name"])
    span = task.data.get("span")
    if span is None or recording.times is None:
        return recording.values[:, 0]
    return recording.values[(recording.times >= span[0]) & (recording.times < span[1]), 0]


def _whole(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    at = np.arange(len(values))
    return np.interp(at, at[known], values[known])


def score_paths(paths: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Of draws `(n, k, T)`: CRPS and coverage of the 80 % interval, per window."""
    low, high = np.quantile(paths.astype(np.float64), (0.1, 0.9), axis=1, method="weibull")
    return _per_window(crps_ensemble(paths, truth), truth, low, high)


def score_normal(mean: np.ndarray, deviation: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """The same of normal distributions `(n, T)`."""
    low, high = mean - Z80 * deviation, mean + Z80 * deviation
    return _per_window(crps_normal(mean, deviation, truth), truth, low, high)


def _per_window(
    crps: np.ndarray, truth: np.ndarray, low: np.ndarray, high: np.ndarray
) -> dict[str, np.ndarray]:
    inside = np.where(np.isnan(truth), np.nan, (truth >= low) & (truth <= high))
    return {"crps": np.nanmean(crps, 1), "coverage": np.nanmean(inside, 1)}
