"""k-means of numbers on a line, where the best clusters can be found for certain."""

from __future__ import annotations

import numpy as np

__all__ = ["centres", "nearest_centre"]

_BINS = 1024  # different values up to which the answer is exact
_ROUNDS = 1000  # of Lloyd's; it ends by itself long before


def centres(values: np.ndarray, k: int, *, bins: int = _BINS) -> np.ndarray:
    """Centres of `k` clusters of `values` that make Σ (value − centre)² least, ascending, float64 (≤ k,).

    The exact optimum by dynamic programming (Wang & Song 2011, "Ckmeans.1d.dp", The R Journal 3/2) where
    there are up to `bins` different values. With more, the optimum over about as many groups of neighbours,
    each taken as its mean, is where Lloyd's algorithm (Lloyd 1982) on all values begins; it can only come
    nearer. Han et al. (2016, "Deep Compression", section 3.2) begin with equal steps between the extremes.

    values: (n,), finite, n ≥ 1
    """
    x, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    if len(x) <= k:
        return x
    shift = x.mean()  # differences of squares lose fewer digits around zero
    x = x - shift
    sums = np.concatenate([[0.0], np.cumsum(counts)]), np.concatenate([[0.0], np.cumsum(counts * x)])
    if len(x) <= bins:
        return _optimal(x, counts.astype(np.float64), k) + shift
    edges = _groups(x, counts, bins, k)
    weights, totals = (np.diff(s[edges]) for s in sums)
    return _lloyd(x, sums, _optimal(totals / weights, weights, k)) + shift


def nearest_centre(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The index of the centre that is nearest to each value; of two, the lower. Centres ascend."""
    return np.searchsorted((found[1:] + found[:-1]) / 2, values, side="left")


def _groups(x: np.ndarray, counts: np.ndarray, bins: int, k: int) -> np.ndarray:
    """Borders of groups of neighbours, at most `bins` + `k`: half have as many values each, half are as wide
    (the tails, where few values are far apart), and there are no fewer than `k`."""
    reached, n, half = np.cumsum(counts), len(x), np.arange(1, bins // 2) / (bins // 2)
    many = np.searchsorted(reached, reached[-1] * half) + 1
    wide = np.searchsorted(x, x[0] + (x[-1] - x[0]) * half)
    return np.unique(np.concatenate([many, wide, np.arange(k + 1) * n // k]))


def _optimal(x: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
    """The exact optimum for weighted, ascending points: D(j, m) = min over i < j of D(i, m−1) + cost(i…j)."""
    n = len(x)
    if n <= k:
        return x
    w, s, q = (np.concatenate([[0.0], np.cumsum(v)]) for v in (weights, weights * x, weights * x * x))
    mass = w[None, :] - w[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = (q[None, :] - q[:, None]) - (s[None, :] - s[:, None]) ** 2 / mass
    cost = np.where(mass > 0, np.maximum(cost, 0.0), np.inf)  # cost[i, j] of points i … j − 1 as one cluster
    best, begins = cost[0], [np.zeros(n + 1, np.int64)]
    for _ in range(k - 1):
        total = best[:, None] + cost
        begins.append(np.argmin(total, axis=0))
        best = np.take_along_axis(total, begins[-1][None], axis=0)[0]
    ends = [n]
    for begin in reversed(begins):
        ends.append(int(begin[ends[-1]]))
    edges = np.array(ends[::-1])
    return np.diff(s[edges]) / np.diff(w[edges])


def _lloyd(x: np.ndarray, sums: tuple[np.ndarray, np.ndarray], found: np.ndarray) -> np.ndarray:
    """Every value to its nearest centre, every centre to the mean of its values, until nothing moves."""
    for _ in range(_ROUNDS):
        edges = np.concatenate([[0], np.searchsorted(x, (found[1:] + found[:-1]) / 2, "right"), [len(x)]])
        mass, total = (np.diff(s[edges]) for s in sums)
        moved = np.where(mass > 0, total / np.maximum(mass, 1), found)
        if np.array_equal(moved, found):
            break
        found = moved
    return found
