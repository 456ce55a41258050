"""Scores of probabilistic forecasts, and the naive forecasts that they have to beat.

Gneiting & Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 2007; Ferro, "Fair
scores for ensemble forecasts", QJRMS 2014; Hyndman & Athanasopoulos, "Forecasting: principles and practice",
3rd edition, sections 5.2 and 5.5.
"""

from __future__ import annotations

import math

import numpy as np

from niwaki.core.contract import CallError

__all__ = ["crps_ensemble", "crps_normal", "estimate_season", "naive_forecast", "pinball"]

_CLEAR = 0.2
"""Autocorrelation from which a season is one."""
_NEARLY = 0.9


def crps_ensemble(paths: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of k draws, k on axis 1: `(n, k, …)`, `(n, …)` → `(n, …)`, lower is
    better, in the unit of the values.

    The fair estimator, unbiased in k (Ferro 2014):
        1/k Σ_i |x_i − y| − 1/(2k(k−1)) Σ_i Σ_j |x_i − x_j|;
    sorted, Σ_i Σ_j |x_i − x_j| = 2 Σ_i (2i − k − 1) x_(i). One draw is a point: its absolute error.
    """
    x, y = np.sort(np.asarray(paths, np.float64), axis=1), np.asarray(truth, np.float64)
    k = x.shape[1]
    error = np.abs(x - y[:, None]).mean(1)
    if k == 1:
        return error
    weights = (2.0 * np.arange(1, k + 1) - k - 1).reshape(1, k, *[1] * (x.ndim - 2))
    return error - (weights * x).sum(1) / (k * (k - 1))


def crps_normal(mean: np.ndarray, deviation: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The same of N(μ, σ²): σ (z (2Φ(z) − 1) + 2φ(z) − 1/√π), z = (y − μ)/σ (Gneiting & Raftery, eq. 5)."""
    from scipy.special import ndtr

    sigma = np.maximum(np.asarray(deviation, np.float64), 1e-12)
    z = (np.asarray(truth, np.float64) - mean) / sigma
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return sigma * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))


def pinball(quantile: np.ndarray, truth: np.ndarray, level: float) -> np.ndarray:
    """Loss of a forecast of the quantile at `level`: max(τ(y − q), (τ − 1)(y − q)); its mean is least for the
    true quantile (Koenker & Bassett 1978)."""
    if not 0 < level < 1:
        raise CallError(f"the level of a quantile must lie between 0 and 1, not {level}")
    difference = np.asarray(truth, np.float64) - quantile
    return np.maximum(level * difference, (level - 1) * difference)


def naive_forecast(past: np.ndarray, steps: int, season: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The last season again and again, without drift: mean and deviation, both `(n, …, steps)`.

    past:   `(n, …, T)`; season: steps, 1 repeats the last value
    Deviation: that of one seasonal difference of the past, times √(⌊(h−1)/season⌋ + 1) at step h = 1 … steps
    (Hyndman & Athanasopoulos, table 5.2). Raises CallError where the past is not longer than a season.
    """
    past = np.asarray(past, np.float64)
    length = past.shape[-1]
    if not 1 <= season < length:
        raise CallError(f"a past of {length} steps holds no two seasons of {season}")
    ahead = np.arange(steps)
    mean = past[..., length - season + ahead % season]
    residual = past[..., season:] - past[..., :-season]
    one = np.sqrt((residual**2).mean(-1, keepdims=True))
    return mean, one * np.sqrt(ahead // season + 1.0)


def estimate_season(series: np.ndarray) -> int:
    """Steps after which series repeat themselves, at most half their length; 1 where they do not.

    series: `(n, …, T)`; the autocorrelations of all of them are averaged. The season is the lag of the
            highest one after they first were negative (before that they only say that the series is smooth),
            if it reaches 0.2; or a whole fraction of it that reaches nine tenths of that: noise alone
            decides among the multiples of a season.
    """
    x = np.asarray(series, np.float64).reshape(-1, series.shape[-1])
    x = x - x.mean(1, keepdims=True)
    power = (x**2).sum(1)
    x = x[power > 0] / np.sqrt(power[power > 0])[:, None]
    most = series.shape[-1] // 2
    if not len(x) or most < 2:
        return 1
    length = x.shape[1]
    # Each lag has fewer products than the one before: all are put on the scale of a whole series.
    found = [1.0] + [
        float((x[:, lag:] * x[:, :-lag]).sum(1).mean()) * length / (length - lag)
        for lag in range(1, most + 1)
    ]
    negative = next((lag for lag, r in enumerate(found) if r < 0), None)
    if negative is None:
        return 1
    best = max(range(negative, most + 1), key=lambda lag: found[lag])
    if found[best] < _CLEAR:
        return 1
    parts = (best // k for k in range(best // max(negative, 2), 1, -1) if best % k == 0)
    return next((lag for lag in parts if found[lag] >= _NEARLY * found[best]), best)
