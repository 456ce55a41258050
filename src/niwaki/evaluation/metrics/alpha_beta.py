"""α-precision and β-recall: how much of the generated is as typical as the real, and the other way round.

Alaa et al., "How faithful is your synthetic data? Sample-level metrics for evaluating and auditing generative
models", ICML 2022 (https://arxiv.org/abs/2102.08921). The features are taken as they come; the paper's
one-class embedding is a feature extractor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.closed_forms import expected_coverage
from niwaki.evaluation.statistics.result import Result, mean_interval, signature

__all__ = ["AlphaBeta", "alpha_beta"]

_CONVENTIONS = (None, "alaa")


@dataclass(frozen=True)
class AlphaBeta:
    """Two curves that lie on the diagonal for a perfect generator, and how near they come to it.

    levels:          α and β, 0 … 1 `(levels,)`
    precision_curve: share of generated samples inside the α-support of the real ones `(levels,)`
    recall_curve:    share of real samples that the β-support of the generated ones reaches `(levels,)`
    precision:       IP_α = 1 − 2 ∫ |P_α − α| dα, 1 where perfect; `per_sample`: the lowest α whose support
                     holds the generated sample, ∞ where none does
    recall:          IR_β = 1 − 2 ∫ |R_β − β| dβ; `per_sample`: the lowest β at which the real sample is
                     reached, ∞ where it never is
    """

    levels: np.ndarray
    precision_curve: np.ndarray
    recall_curve: np.ndarray
    precision: Result
    recall: Result

    def results(self) -> dict[str, Result]:
        """The two numbers by name."""
        return {"alpha_precision": self.precision, "beta_recall": self.recall}


def alpha_beta(
    real: Any, generated: Any, *, levels: int = 30, k: int = 5, compat: str | None = None, block: int = 2048
) -> AlphaBeta:
    """Both curves over `levels` quantile levels 0 … 1.

    real, generated: features (n, d), n ≥ 2, more than k real samples
    k:               the ball of a real sample reaches to its k-th real neighbour, itself excluded
    compat:          "alaa" is the authors' code with the mean as its centre (its own k is 1), see below
    block:           side of a block of pairs

    Ours differs from the authors' code in three things. Quantiles are of distances to the mean of the *other*
    samples: to a mean that it is part of a sample is nearer than any new one, and in 2000 dimensions a
    perfect generator would lie outside. Whether a real sample lies in the β-support is asked of itself; they
    ask it of the generated sample nearest to it, at quantiles of these: losing eight of ten modes then
    scores less than losing nine. The balls are without their border and the integral is by the
    trapezoid rule, theirs with it and a sum over the levels.
    Floors: IP_α from the expected distance of two empirical distributions, IR_β from the expected share of
    reached real samples. Intervals are over the samples that are averaged, the other set held fixed.
    Raises CallError for too few samples or levels, differing widths, NaN, an unknown `compat`.
    """
    if compat not in _CONVENTIONS:
        names = [c for c in _CONVENTIONS if c]
        raise CallError(f"compat '{compat}' is not known; {nearest(str(compat), names)}")
    if levels < 2 or k < 1:
        raise CallError(f"levels must be at least 2 and k at least 1, not {levels} and {k}")
    x, y = pair(real, generated, least=2)
    if len(x) <= k:
        raise CallError(f"{len(x)} real samples are too few for {k} neighbours")
    n, m, theirs = len(x), len(y), compat == "alaa"
    grid = np.linspace(0.0, 1.0, levels)

    # f_P(g) = 1{g ∈ B(c_r, r_α)}, r_α the α-quantile of ‖x − c_r‖. The mean of the *other* real samples lies
    # n/(n−1) times as far from each as the mean of all.
    centre = x.mean(0)
    of_real = (x - centre).norm(dim=1).cpu().numpy() * (1.0 if theirs else n / (n - 1))
    of_generated = (y - centre).norm(dim=1).cpu().numpy()
    inside = _lowest(of_generated, np.quantile(of_real, grid), grid)

    # f_R(x) = 1{g_j* ∈ B(x, NND_k(x))} for the x in B(c_g, r_β), g_j* the generated sample nearest to x: the
    # small balls stand around the *real* samples and reach to their k-th *real* neighbour; c_g and r_β, the
    # β-quantile of ‖g − c_g‖, are of the *generated* ones.
    radius2 = Pairs(x, block=block).nearest(k).d2[:, -1]
    if not bool((radius2 > 0).any()):
        raise CallError(f"every real sample has {k} copies of itself, so that its ball holds nothing")
    near = Pairs(x, y, block=block).nearest(1)
    d2, j = near.d2[:, 0], near.index[:, 0]
    held = (d2 <= radius2 if theirs else d2 < radius2).cpu().numpy()
    middle = y.mean(0)
    if theirs:  # j indexes the generated samples; the quantiles are of the g_j* alone
        depth = ends = (y - middle).norm(dim=1)[j].cpu().numpy()
    else:
        depth = (x - middle).norm(dim=1).cpu().numpy()
        ends = (y - middle).norm(dim=1).cpu().numpy() * (m / (m - 1))
    reached = np.where(held, _lowest(depth, np.quantile(ends, grid), grid), math.inf)

    def integrated(name: str, lowest: np.ndarray, floor: float) -> tuple[np.ndarray, Result]:
        curve = (lowest[:, None] <= grid).mean(0)
        value, interval = _integrated(lowest, curve, grid, theirs)
        text = signature(
            name, k=k if name == "beta_recall" else None, levels=levels, compat=compat, d=x.shape[1], real=n,
            generated=m,
        )  # fmt: skip
        return curve, Result(value, interval, floor, lowest, (n, m), None, text)

    # P_α − α is the difference of two empirical distributions: E|N(0, α(1−α)(1/n + 1/m))|.
    deviation = math.sqrt(2.0 / math.pi * (1.0 / n + 1.0 / m)) * np.sqrt(grid * (1.0 - grid))
    precision_curve, precision = integrated("alpha_precision", inside, 1.0 - 2.0 * _integral(deviation, grid))
    # Where all else is alike R_β = β · coverage, and 1 − 2 ∫ (1 − coverage) β dβ = coverage.
    recall_curve, recall = integrated("beta_recall", reached, expected_coverage(n, m, k))
    return AlphaBeta(grid, precision_curve, recall_curve, precision, recall)


def _lowest(distance: np.ndarray, radius: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The first level whose radius (rising) is at least the distance, ∞ where none is."""
    return np.append(grid, math.inf)[np.searchsorted(radius, distance, side="left")]


def _integral(values: np.ndarray, grid: np.ndarray) -> float:
    return float(np.trapezoid(values, grid))


def _integrated(
    lowest: np.ndarray, curve: np.ndarray, grid: np.ndarray, theirs: bool
) -> tuple[float, tuple[float, float]]:
    """1 − 2 ∫ |C(t) − t| dt and its interval.

    By the delta method: the derivative to a sample is −2 ∫ sign(C(t) − t) 1{lowest ≤ t} dt.
    """
    step = float(grid[1] - grid[0])
    weight = np.full(len(grid), step)
    if not theirs:
        weight[[0, -1]] = step / 2.0
    value = 1.0 - 2.0 * float(weight @ np.abs(curve - grid))
    influence = -2.0 * (lowest[:, None] <= grid) @ (weight * np.sign(curve - grid))
    low, high = mean_interval(influence - influence.mean() + value)
    return value, (max(min(0.0, value), low), min(1.0, high))
