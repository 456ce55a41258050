"""The difference that pairing leaves: its value, its variance, its p-value.

A pair is sample j before and after. Several extractors look at the same pairs; their statistics are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from niwaki.evaluation.pairwise.neighbourhood import Neighbourhood, rarefied_coverage, rarefied_coverage_table
from niwaki.evaluation.statistics.result import Z95, normal_interval

__all__ = [
    "Change",
    "log_realism_change",
    "p_value_of",
    "rarefied_coverage_change",
    "rarefied_coverage_influence",
    "third_cumulant",
]

Places = Sequence[tuple[Neighbourhood, Neighbourhood]]
"""Before and after, as each extractor sees them."""


@dataclass(frozen=True)
class Change:
    """A statistic of which more is better, before and after.

    pair_variance: of before − after by the choice of the pairs (of the samples on both sides); falls as 1/n
    real_variance: of it by the choice of the real samples; more pairs do not lower it
    third:         third cumulant of it: rare heavy damage makes the mean lopsided
    p_value:       share of random swaps with a difference at least as large
    parts:         before − after of each extractor
    each:          unpaired: the pair variance that one sample on each side would leave; None for pairs
    """

    before: float
    after: float
    pair_variance: float
    real_variance: float
    third: float
    p_value: float
    parts: tuple[float, ...]
    each: float | None = None

    @property
    def delta(self) -> float:
        """Positive: worse after."""
        return self.before - self.after

    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference, corrected for lopsidedness.

        Both ends move by σ·γ·(2z² + 1)/6, γ the skewness of the mean: the Edgeworth quantiles of a
        studentized mean (Hall, "The bootstrap and Edgeworth expansion", 1992). Without it rare heavy damage
        passes unseen too often.
        """
        error = math.sqrt(self.pair_variance + self.real_variance)
        if error == 0:
            return (self.delta, self.delta)
        shift = self.third / error**2 * (2 * Z95**2 + 1) / 6
        shift = max(-error, min(error, shift))  # beyond that the expansion says nothing
        return normal_interval(self.delta + shift, error)


def log_realism_change(places: Places, swaps: np.ndarray) -> Change:
    """Of the mean log realism. swaps: pairs to exchange, bool (swaps, n).

    The difference is a mean over pairs, so that its delete-one jackknife is s²/n. It speaks of these real
    samples: they are the ruler for both sides.
    """
    difference = np.mean([b.log_realism - a.log_realism for b, a in places], axis=0)
    n = len(difference)
    swapped = (1.0 - 2.0 * swaps) @ difference / n
    return Change(
        before=float(np.mean([b.log_realism.mean() for b, _ in places])),
        after=float(np.mean([a.log_realism.mean() for _, a in places])),
        pair_variance=float(difference.var(ddof=1)) / n,
        real_variance=0.0,
        third=third_cumulant(difference),
        p_value=p_value_of(float(difference.mean()), swapped),
        parts=tuple(float((b.log_realism - a.log_realism).mean()) for b, a in places),
    )


def rarefied_coverage_change(places: Places, swaps: np.ndarray, m: int) -> Change:
    """Of the mean rarefied coverage of m samples. swaps: pairs to exchange, bool (swaps, n).

    Over pairs: the delete-one jackknife, whose variance is on average not too small for any statistic (Efron
    & Stein, "The jackknife estimate of variance", 1981). Over real samples: the rarefied coverage is a
    mean over them.
    """
    n = swaps.shape[1]
    first = np.array([rarefied_coverage(b.counts(), n, m) for b, _ in places])
    second = np.array([rarefied_coverage(a.counts(), n, m) for _, a in places])
    fall = (first - second).mean(0)
    influence = np.mean(
        [rarefied_coverage_influence(b, n, m) - rarefied_coverage_influence(a, n, m) for b, a in places],
        axis=0,
    )
    return Change(
        before=float(first.mean()),
        after=float(second.mean()),
        pair_variance=(n - 1) / n * float(((influence - influence.mean()) ** 2).sum()),
        real_variance=float(fall.var(ddof=1)) / len(fall),
        third=third_cumulant(influence * n) + third_cumulant(fall),
        p_value=p_value_of(float(fall.mean()), _swapped_rarefied_coverage(places, swaps, m)),
        parts=tuple((first - second).mean(1).tolist()),
    )


def third_cumulant(values: np.ndarray) -> float:
    """Third cumulant of the mean of independent values."""
    return float(((values - values.mean()) ** 3).mean()) / len(values) ** 2


def rarefied_coverage_influence(place: Neighbourhood, n: int, m: int) -> np.ndarray:
    """What the mean rarefied coverage loses without sample j, up to a constant `(n,)`: only the real samples
    it claims change."""
    table = rarefied_coverage_table(n - 1, m)
    counts = place.counts()
    step = table[np.minimum(counts, n - 1)] - table[np.maximum(counts - 1, 0)]
    return step[place.claims].sum(1) / place.real


def _swapped_rarefied_coverage(places: Places, swaps: np.ndarray, m: int) -> np.ndarray:
    """The difference of the mean rarefied coverage after each swap `(swaps,)`."""
    table = rarefied_coverage_table(swaps.shape[1], m)
    out = np.zeros(len(swaps))
    for before, after in places:
        for i, swap in enumerate(swaps):
            keep = ~swap
            first = before.counts(keep) + after.counts(swap)
            second = before.counts(swap) + after.counts(keep)
            out[i] += (table[first] - table[second]).mean()
    return out / len(places)


def p_value_of(observed: float, swapped: np.ndarray) -> float:
    """(1 + number of swapped ≥ observed) / (1 + number): one-sided, valid at any number of swaps."""
    tolerance = 1e-12 * max(1.0, abs(observed))
    return float((1 + np.count_nonzero(swapped >= observed - tolerance)) / (1 + len(swapped)))
