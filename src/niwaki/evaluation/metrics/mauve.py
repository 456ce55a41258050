"""MAUVE (Pillutla et al. 2021): the area under the frontier of divergences between two distributions, cut
into clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import Result, signature

__all__ = ["frontier_area", "mauve"]

_KEPT = 0.9  # of the variance, as in the authors' code
_SHARES = np.linspace(1e-6, 1 - 1e-6, 50)  # of the first distribution in the mixture


def mauve(
    real: Any, generated: Any, *, clusters: int | None = None, scale: float = 5.0, seeds: int = 5
) -> Result:
    """Area of the divergence frontier, 0 … 1, higher is closer: the median over seeds of k-means; the
    interval spans all seeds, which is what published figures leave out.

    real, generated: features `(n, d)`
    clusters: default: a tenth of the samples of the smaller set, at least 2 and at most 500
    scale:    c of exp(−c · KL)
    Raises CallError for features of different widths or fewer than two samples.
    """
    a, b = pair(real, generated)
    if min(len(a), len(b)) < 2:
        raise CallError(f"MAUVE needs at least two samples on either side, not {len(a)} and {len(b)}")
    both = np.concatenate([np.asarray(a, np.float64), np.asarray(b, np.float64)])
    reduced = PCA().fit(both)
    share = np.cumsum(reduced.explained_variance_ratio_)
    z = reduced.transform(both)[:, : int(np.searchsorted(share, _KEPT)) + 1]
    norm = np.linalg.norm(z, axis=1, keepdims=True)
    z = z / np.where(norm > 0, norm, 1.0)
    count = clusters or int(np.clip(min(len(a), len(b)) // 10, 2, 500))
    count = min(count, len(np.unique(z, axis=0)))
    values = []
    for seed in range(seeds):
        labels = KMeans(count, n_init=1, random_state=seed).fit_predict(z)
        p = np.bincount(labels[: len(a)], minlength=count) / len(a)
        q = np.bincount(labels[len(a) :], minlength=count) / len(b)
        values.append(frontier_area(p, q, scale))
    text = signature("mauve", clusters=count, scale=scale, seeds=seeds)
    spread = (min(values), max(values))
    return Result(float(np.median(values)), spread, None, None, (len(a), len(b)), 0, text)


def frontier_area(p: np.ndarray, q: np.ndarray, scale: float = 5.0) -> float:
    """Area under the curve of (e^(−c KL(q ‖ r)), e^(−c KL(p ‖ r))), r = λp + (1 − λ)q, λ from 0 to 1, with
    its ends at (0, 1) and (1, 0); 1 where both are the same.

    p, q: probabilities `(k,)`
    """
    mixtures = _SHARES[:, None] * p + (1 - _SHARES[:, None]) * q
    x = np.exp(-scale * np.array([_divergence(q, r) for r in mixtures]))
    y = np.exp(-scale * np.array([_divergence(p, r) for r in mixtures]))
    x, y = np.concatenate([[1.0], x, [0.0]]), np.concatenate([[0.0], y, [1.0]])
    return -float(np.trapezoid(y, x))  # x falls along the curve


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p ‖ q) in nats, where q is positive wherever p is."""
    there = p > 0
    return float((p[there] * np.log(p[there] / q[there])).sum())
