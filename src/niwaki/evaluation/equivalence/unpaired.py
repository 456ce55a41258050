"""The difference of two sets of samples that share no noise: its value, its variance, its p-value.

Both sides are draws of their own, so that their variances add up; what pairing would cancel stays. The
numbers of samples may differ: neither statistic depends on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.evaluation.equivalence.paired import (
    Change,
    Places,
    p_value_of,
    rarefied_coverage_influence,
    third_cumulant,
)
from niwaki.evaluation.pairwise.neighbourhood import Neighbourhood, rarefied_coverage, rarefied_coverage_table
from niwaki.evaluation.statistics.result import normal_interval
from niwaki.features import Classifier

__all__ = ["accuracy_difference", "draws", "log_realism_difference", "rarefied_coverage_difference"]


def draws(before: int, after: int, permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Which of all samples, before and after in one row, are called `before`: bool (permutations, all).

    Always as many as there are, without replacement.
    """
    chosen = np.zeros((permutations, before + after), bool)
    for row in chosen:
        row[rng.permutation(before + after)[:before]] = True
    return chosen


def log_realism_difference(places: Places, chosen: np.ndarray) -> Change:
    """Of the mean log realism: V = s²/n on each side, the delete-one jackknife of a mean.."""
    first = np.mean([b.log_realism for b, _ in places], axis=0)
    second = np.mean([a.log_realism for _, a in places], axis=0)
    n, m = len(first), len(second)
    pooled = np.concatenate([first, second])
    sums = chosen @ pooled
    swapped = sums / n - (pooled.sum() - sums) / m
    s2_first, s2_second = float(first.var(ddof=1)), float(second.var(ddof=1))
    return Change(
        before=float(first.mean()),
        after=float(second.mean()),
        pair_variance=s2_first / n + s2_second / m,
        real_variance=0.0,
        third=third_cumulant(first) - third_cumulant(second),
        p_value=p_value_of(float(first.mean() - second.mean()), swapped),
        parts=tuple(float(b.log_realism.mean() - a.log_realism.mean()) for b, a in places),
        each=s2_first + s2_second,
    )


def rarefied_coverage_difference(places: Places, chosen: np.ndarray, m: int) -> Change:
    """Of the mean rarefied coverage of m samples. chosen: from `draws`.

    Over samples: the delete-one jackknife of each side. Over real samples: the variance of the fall of each,
    less what the draw of the generated ones adds to it (it is in the first part already).
    """
    sizes = [len(place.claims) for place in places[0]]
    sides = [np.array([rarefied_coverage(pair[s].counts(), sizes[s], m) for pair in places]) for s in (0, 1)]
    fall = (sides[0] - sides[1]).mean(0)
    influence = [
        np.mean([rarefied_coverage_influence(pair[s], sizes[s], m) for pair in places], axis=0)
        for s in (0, 1)
    ]
    each = [(n - 1) * float(((i - i.mean()) ** 2).sum()) for i, n in zip(influence, sizes, strict=True)]
    drawn = sum(float(_of_the_draw(place, m).mean()) for pair in places for place in pair) / len(places) ** 2
    real = max(0.0, float(fall.var(ddof=1)) - drawn) / len(fall)
    third = [third_cumulant(i * n) for i, n in zip(influence, sizes, strict=True)]
    return Change(
        before=float(sides[0].mean()),
        after=float(sides[1].mean()),
        pair_variance=each[0] / sizes[0] + each[1] / sizes[1],
        real_variance=real,
        third=third[0] - third[1] + third_cumulant(fall),
        p_value=p_value_of(float(fall.mean()), _redrawn_rarefied_coverage(places, chosen, m)),
        parts=tuple((sides[0] - sides[1]).mean(1).tolist()),
        each=each[0] + each[1],
    )


def _of_the_draw(place: Neighbourhood, m: int) -> np.ndarray:
    """Variance of the rarefied coverage of each real sample by the choice of the generated ones `(real,)`.

    The delete-one jackknife in closed form: of n samples c have it among their nearest, and without one of
    them its coverage falls by the same step.
    """
    n, counts = len(place.claims), place.counts()
    table = rarefied_coverage_table(n - 1, m)
    step = table[np.minimum(counts, n - 1)] - table[np.maximum(counts - 1, 0)]
    share = counts / n
    return (n - 1) * share * (1.0 - share) * step**2


def _redrawn_rarefied_coverage(places: Places, chosen: np.ndarray, m: int) -> np.ndarray:
    """The difference of the mean rarefied coverage after each draw `(draws,)`."""
    sizes = [len(place.claims) for place in places[0]]
    tables = [rarefied_coverage_table(n, m) for n in sizes]
    out = np.zeros(len(chosen))
    for before, after in places:
        claims = np.concatenate([before.claims, after.claims])
        whole = np.bincount(claims.ravel(), minlength=before.real)
        for i, one in enumerate(chosen):
            first = np.bincount(claims[one].ravel(), minlength=before.real)
            out[i] += (tables[0][first] - tables[1][whole - first]).mean()
    return out / len(places)


def accuracy_difference(
    classifier: Classifier,
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
) -> dict[str, Any]:
    """Shares recognised as asked before and after, and their difference with its 95 % interval.

    before, after: features `(n, d)` and the classes that were asked for `(n,)`
    """
    hits = [(classifier.probabilities_of(f).argmax(1) == y).astype(float) for f, y in (before, after)]
    delta = float(hits[0].mean() - hits[1].mean())
    error = sum(float(h.var(ddof=1)) / len(h) for h in hits) ** 0.5
    return {
        "before": float(hits[0].mean()),
        "after": float(hits[1].mean()),
        "delta": delta,
        "interval": list(normal_interval(delta, error)),
    }
