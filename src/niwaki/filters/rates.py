"""What a score is worth: ROC, the area under it, and a threshold with a promised false-positive rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import beta, norm, rankdata

from niwaki_runtime.errors import CallError

__all__ = ["Area", "Threshold", "area_under", "roc", "threshold_at"]

Z95 = float(norm.isf(0.025))


@dataclass(frozen=True)
class Threshold:
    """
    value:    samples with a higher score are withheld
    rate:     expected false-positive rate, at most what was asked for
    interval: 95 % of the false-positive rate of such a threshold
    n:        held-out good samples that it is taken from
    """

    value: float
    rate: float
    interval: tuple[float, float]
    n: int

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "interval": list(self.interval)}


def threshold_at(good: np.ndarray, rate: float) -> Threshold:
    """The threshold that withholds at most a share `rate` of good samples, on average over what might have
    been held out.

    It is the r-th smallest of n held-out scores, r = ⌈(n + 1)(1 − rate)⌉; if scores have no ties, the rate of
    fresh good samples above it is Beta(n + 1 − r, r), whatever their distribution (Wilks 1941; split
    conformal prediction, Vovk et al. 2005). Ties make it smaller.
    Raises CallError for a rate outside 0 … 1, and for fewer than (1 − rate)/rate samples: no threshold can
    then promise it.
    """
    if not 0 < rate < 1:
        raise CallError(f"the false-positive rate must lie between 0 and 1, not {rate}")
    scores = np.sort(np.asarray(good, np.float64))
    n = len(scores)
    r = math.ceil((n + 1) * (1 - rate) - 1e-9)
    if r > n:
        need = math.ceil((1 - rate) / rate - 1e-9)
        raise CallError(
            f"a false-positive rate of {rate:g} needs at least {need} held-out good samples, not {n}; "
            "give more good samples or a larger --rate"
        )
    low, high = beta.ppf([0.025, 0.975], n + 1 - r, r)
    return Threshold(float(scores[r - 1]), (n + 1 - r) / (n + 1), (float(low), float(high)), n)


def roc(good: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(thresholds, false-positive rates, true-positive rates) for every distinct score, from the strictest
    on: a sample is withheld where its score is *above* the threshold; the last withholds all."""
    good, bad = np.sort(np.asarray(good, np.float64)), np.sort(np.asarray(bad, np.float64))
    values = np.unique(np.concatenate([good, bad]))[::-1]
    at = np.concatenate([values, [-np.inf]])

    def above(scores: np.ndarray) -> np.ndarray:
        return 1.0 - np.searchsorted(scores, at, "right") / len(scores)

    return at, above(good), above(bad)


@dataclass(frozen=True)
class Area:
    """Area under the ROC: the chance that a bad sample scores higher than a good one, ties by half.

    interval: 95 %
    """

    value: float
    interval: tuple[float, float]
    n: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "interval": list(self.interval), "n": list(self.n)}


def area_under(good: np.ndarray, bad: np.ndarray) -> Area:
    """DeLong et al., "Comparing the areas under two or more correlated receiver operating characteristic
    curves", Biometrics 44, 1988; the interval on the scale of log odds, so that it stays inside 0 … 1.
    Where all bad samples are above all good ones its lower end is that of no failure in the smaller set,
    0.025^(1/n).

    Raises CallError where one of them is empty.
    """
    good, bad = np.asarray(good, np.float64), np.asarray(bad, np.float64)
    n, m = len(good), len(bad)
    if not n or not m:
        raise CallError("a ROC needs good and bad samples")
    # Ranks within the union less ranks within its own set count the others below, ties by half.
    ranks = rankdata(np.concatenate([good, bad]))
    of_good = 1.0 - (ranks[:n] - rankdata(good)) / m  # share of bad above each good one
    of_bad = (ranks[n:] - rankdata(bad)) / n
    value = float(of_bad.mean())
    variance = sum(float(v.var(ddof=1)) / len(v) for v in (of_good, of_bad) if len(v) > 1)
    if variance <= 0 or not 0 < value < 1:
        edge = 0.025 ** (1.0 / min(n, m))
        whole = (edge, 1.0) if value >= 1 else (0.0, 1.0 - edge) if value <= 0 else (0.0, 1.0)
        return Area(value, whole, (n, m))
    half = Z95 * math.sqrt(variance) / (value * (1 - value))
    low, high = expit(logit(value) - half), expit(logit(value) + half)
    return Area(value, (float(low), float(high)), (n, m))
