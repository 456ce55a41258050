"""CRPS of the recipe `membrane-forecast` beside classical forecasts of the same windows.

    python benchmarks/forecasts.py runs/membrane-forecast   # a trained run; writes results/forecasts.json
    python benchmarks/forecasts.py runs/membrane-forecast --statsforecast 60   # fitted to 60 windows

naive, seasonal: the last value, or season, again; normal intervals from the window's own differences
ar:              one linear autoregression for all windows: order by AIC, least squares on the training
                 block, iterated; normal intervals with the deviation that each step had on its windows
autoarima, autoets: statsforecast (Nixtla), fitted to the past of every window by itself, normal intervals;
                 where it is installed, and for every so many windows only, since a fit takes seconds
bundle:          the run's compressed bundle, 100 paths

All are scored on the same windows of the test block. CRPS of normal forecasts is exact, that of paths the
fair estimate. Windows overlap, so that the intervals come from blocks of neighbouring windows (bootstrap over
blocks as long as a window).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import niwaki_runtime
from niwaki.core.store import write_json
from niwaki.data import Dataset
from niwaki.data.config import registered
from niwaki.deployment import machine
from niwaki.evaluation.metrics.forecasts import crps_ensemble, crps_normal, estimate_season, naive_forecast
from niwaki.workflow.run_context import open_run

OUT = Path("benchmarks/results/forecasts.json")
PATHS = 100
ORDERS = range(1, 41)

Normal = tuple[np.ndarray, np.ndarray]
"""Means and deviations `(n, C, T)`."""


def windows(config: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pasts and futures of every split in the order of time (a loaded data set is shuffled)."""
    pool = registered(config.source).read(config, config.options(), None)
    past, x = (pool.columns[name].data.numpy().astype(np.float64) for name in ("past", "x"))
    return {
        name: (past[pool.assignment == k], x[pool.assignment == k])
        for k, name in enumerate(("train", "validation", "test"))
    }


def autoregression(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> tuple[Normal, int]:
    """Least squares x_t = c + Σ a_k x_{t−k} + e on the training windows; the order of least AIC."""
    past, future = train
    rows = np.concatenate([past, future], 2).reshape(-1, past.shape[2] + future.shape[2])
    most = min(max(ORDERS), past.shape[2])
    target = rows[:, most:].ravel()
    lags = np.stack([rows[:, most - k : rows.shape[1] - k].ravel() for k in range(1, most + 1)], 1)
    best: tuple[float, int, np.ndarray] | None = None
    for order in ORDERS:
        design = np.concatenate([np.ones((len(target), 1)), lags[:, :order]], 1)
        weights, *_ = np.linalg.lstsq(design, target, rcond=None)
        aic = len(target) * np.log(np.mean((target - design @ weights) ** 2)) + 2 * order
        if best is None or aic < best[0]:
            best = aic, order, weights
    assert best is not None
    _, order, weights = best

    def iterated(past: np.ndarray, steps: int) -> np.ndarray:
        series = past.copy()
        for _ in range(steps):
            following = weights[0] + (series[..., : -order - 1 : -1] * weights[1:]).sum(-1, keepdims=True)
            series = np.concatenate([series, following], -1)
        return series[..., past.shape[-1] :]

    steps = future.shape[2]
    deviation = np.sqrt(((iterated(past, steps) - future) ** 2).mean((0, 1)))
    mean = iterated(test[0], steps)
    return (mean, np.broadcast_to(deviation, mean.shape)), order


def statsforecast(past: np.ndarray, steps: int, season: int) -> dict[str, Normal]:
    """AutoARIMA and AutoETS of every window, each channel by itself; {} without statsforecast."""
    try:
        from statsforecast.models import AutoARIMA, AutoETS
    except ImportError as error:
        print(f"statsforecast is left out: {error}", file=sys.stderr)
        return {}
    found: dict[str, Normal] = {}
    makers: dict[str, Callable[[], Any]] = {
        "autoarima": lambda: AutoARIMA(season_length=season),
        "autoarima, no season": lambda: AutoARIMA(),
        "autoets": lambda: AutoETS(season_length=season if season <= 24 else 1),
    }
    z = 1.2815515655446004  # of the 80 % interval
    for name, make in makers.items():
        mean, deviation = np.empty((2, len(past), past.shape[1], steps))
        for i, window in enumerate(past):
            for c, series in enumerate(window):
                said = make().forecast(y=series, h=steps, level=[80])
                mean[i, c] = said["mean"]
                deviation[i, c] = (np.asarray(said["hi-80"]) - np.asarray(said["mean"])) / z
        found[name] = mean, deviation
    return found


def interval(score: np.ndarray, block: int, seed: int = 0) -> tuple[float, float]:
    """95 % of the mean over windows in the order of time, by a bootstrap over blocks of neighbours.

    Blocks run on from the last window to the first: else windows at the ends would be drawn less often than
    those between, and the interval would lie beside its own mean (Politis & Romano 1992).
    """
    rng = np.random.default_rng(seed)
    n, block = len(score), min(block, len(score))
    starts = rng.integers(0, n, (2000, -(-n // block)))
    rows = (starts[..., None] + np.arange(block)).reshape(2000, -1)[:, :n] % n
    low, high = np.quantile(score[rows].mean(1), (0.025, 0.975))
    return float(low), float(high)


def bundle_paths(path: Path, past: np.ndarray, dataset: Dataset, seed: int) -> np.ndarray:
    """Paths of the bundle `(n, PATHS, C, T)`."""
    bundle = niwaki_runtime.load(path)
    given = np.repeat(past.astype(np.float32), PATHS, axis=0)
    made = np.asarray(bundle.run("forecast", len(given), seed=seed, inputs={"past": given}))
    return made.reshape(len(past), PATHS, *dataset.spec.shape)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", help="a run directory of a forecaster without covariates")
    parser.add_argument(
        "--statsforecast", type=int, default=0, help="windows that it is fitted to; 0 leaves it out"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=OUT)
    args = parser.parse_args()
    context = open_run(args.run)
    found, dataset = windows(context.recipe.data), context.dataset
    past, truth = found["test"]
    steps = truth.shape[2]
    season = estimate_season(found["train"][0][:2000])
    scores: dict[str, np.ndarray] = {}
    for name, length in (("naive", 1), ("seasonal", season)):
        scores[name] = crps_normal(*naive_forecast(past, steps, length), truth)
    said, order = autoregression(found["train"], found["test"])
    scores[f"ar({order})"] = crps_normal(*said, truth)
    chosen = np.arange(len(past))
    if args.statsforecast:
        chosen = np.unique(np.linspace(0, len(past) - 1, args.statsforecast).astype(int))
        for name, normal in statsforecast(past[chosen], steps, season).items():
            scores[name] = crps_normal(*normal, truth[chosen])
    scores["bundle"] = crps_ensemble(bundle_paths(context.run.bundle, past, dataset, args.seed), truth)
    table = Table("forecast", "windows", "CRPS", "95 %", f"CRPS on the same {len(chosen)}")
    rows: dict[str, Any] = {}
    for name, score in scores.items():
        each = score.mean((1, 2))
        same = each if len(each) == len(chosen) else each[chosen]
        block = (past.shape[2] + steps) if len(each) == len(past) else 1
        low, high = interval(each, block)
        rows[name] = {"windows": len(each), "crps": float(each.mean()), "interval": [low, high],
                      "same_windows": float(same.mean())}  # fmt: skip
        table.add_row(
            name, str(len(each)), f"{each.mean():.3f}", f"{low:.3f} … {high:.3f}", f"{same.mean():.3f}"
        )
    Console().print(table)
    write_json(args.json, {
        "machine": machine(), "recipe": context.recipe.name, "seed": args.seed, "season": season,
        "data": dataset.fingerprint[:12], "rows": rows,
    })  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
