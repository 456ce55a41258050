"""The Fréchet distance of infinitely many samples: its bias falls as 1/N and is extrapolated away.

Chong & Forsyth, "Effectively unbiased FID and Inception Score and where to find them", CVPR 2020
(https://arxiv.org/abs/1911.07023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.metrics.moments import Moments, Transport, transport
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import Result, normal_interval, signature

__all__ = ["FrechetInfinity", "frechet_distance_infinity"]


@dataclass(frozen=True)
class FrechetInfinity(Result):
    """The extrapolated distance with the points it was extrapolated from.

    sizes:     samples in each prefix, (points, 2): real, generated
    distances: Fréchet distance of each prefix, (points,); the last one is that of all samples
    slope:     of the line over 1/N, N the size of the smaller set: how much bias a sample size costs
    """

    sizes: np.ndarray = field(repr=False, compare=False)
    distances: np.ndarray = field(repr=False, compare=False)
    slope: float

    def to_json(self) -> dict[str, Any]:
        curve = {"sizes": self.sizes.tolist(), "distances": self.distances.tolist(), "slope": self.slope}
        return {**super().to_json(), **curve}


def frechet_distance_infinity(
    real: Any,
    generated: Any,
    *,
    points: int = 15,
    least: int | None = None,
    seed: int = 0,
    compat: str | None = None,
) -> FrechetInfinity:
    """Intercept of the line through the Fréchet distances of growing prefixes over 1/N.

    real, generated: features (n, d), n > d: below that the bias is no straight line in 1/N
    points:          prefixes, evenly spaced in size up to all samples, at least 3
    least:           samples of the smaller set in the first prefix. Default: min(5000, N/10), but at least
                     2d, and where that is more than half of the samples, half of them
    compat:          None takes the same share of both sets into each prefix, so that the bias of both goes;
                     "chong" keeps all real samples, as the reference does: half of the bias stays where the
                     sets are of one size. (It also shuffles anew for each point: equal up to that choice.)
    Prefixes are of one permutation, without replacement: copies of samples would add bias. Sets of equal size
    share it, so that a set is at distance 0 from itself. Unbiased and therefore sometimes below 0; the floor
    is 0. The interval is the infinitesimal jackknife (Jaeckel 1972) over the samples of both sets, whose
    influence adds up over all the prefixes that hold them; it is too wide by a third where the distributions
    are equal. Memory beside the features is a few d².
    Raises CallError for n ≤ d, fewer than 8 samples, differing widths, NaN, an unknown `compat`.
    """
    if compat not in (None, "chong"):
        raise CallError(f"compat '{compat}' is not known; {nearest(str(compat), ['chong'])}")
    if points < 3:
        raise CallError(f"a line with an error needs at least 3 points, not {points}")
    x, y = pair(real, generated, least=8)
    d, small = x.shape[1], min(len(x), len(y))
    if small <= d:
        raise CallError(
            f"extrapolation needs more samples than the {d} features, not {small}; take fewer features, or "
            "compare frechet_distance at equal n"
        )
    x, y = (v[_permutation(len(v), seed).to(v.device)] for v in (x, y))
    sizes = _sizes(len(x), len(y), d, points, least, compat)
    inverse = 1.0 / sizes[:, 1 if compat else int(len(y) < len(x))]
    design = np.stack([np.ones(len(sizes)), inverse], 1)
    fit = np.linalg.pinv(design)  # (2, points): the intercept and the slope as weighted sums of the distances
    distances, error = _follow(x, y, sizes, fit[0])
    value, slope = (float(v) for v in fit @ distances)
    text = signature(
        "frechet_infinity",
        ddof=1,
        d=d,
        real=len(x),
        generated=len(y),
        points=len(sizes),
        least=int(sizes[0].min()),
        seed=seed,
        compat=compat,
    )
    return FrechetInfinity(
        value,
        normal_interval(value, error),
        0.0 if compat is None else None,
        None,
        (len(x), len(y)),
        seed,
        text,
        sizes,
        distances,
        slope,
    )


def _permutation(n: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).permutation(n))


def _sizes(n: int, m: int, d: int, points: int, least: int | None, compat: str | None) -> np.ndarray:
    """Real and generated samples in each prefix, (points, 2), rising; fewer where the sets are tiny."""
    most = m if compat else min(n, m)
    if least is None:
        least = max(min(5000, most // 10), min(2 * d, most // 2))
    if not 3 <= least <= most - 2:
        raise CallError(f"the first prefix must hold 3 … {most - 2} samples, not {least}")
    grown = np.unique(np.linspace(least, most, points).astype(np.int64))
    if compat:
        return np.stack([np.full(len(grown), n), grown], 1)
    return np.stack([np.rint(grown * (k / most)).astype(np.int64) for k in (n, m)], 1)


def _follow(x: Tensor, y: Tensor, sizes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Distance at each prefix, and the standard error of their weighted sum."""
    a, b = (Moments(x.shape[1], x.device) for _ in range(2))
    of_x, of_y = (torch.zeros(len(v), dtype=torch.float64, device=v.device) for v in (x, y))
    distances = np.empty(len(sizes))
    for at, ((n, m), weight) in enumerate(zip(sizes.tolist(), weights.tolist(), strict=True)):
        if n > a.n:
            a.add(x[a.n : n])
        if m > b.n:
            b.add(y[b.n : m])
        map_ = transport(a, b)
        distances[at] = map_.distance
        # d value / d sample = Σ over the prefixes that hold it of weight/n · influence there
        of_x[:n] += weight / n * Transport.influence(x[:n], a, b, map_.forth)
        of_y[:m] += weight / m * Transport.influence(y[:m], b, a, map_.back)
    return distances, math.sqrt(float(of_x.square().sum() + of_y.square().sum()))
