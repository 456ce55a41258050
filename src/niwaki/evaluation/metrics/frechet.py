"""Fréchet distance between two sets of features: of the Gaussians with their means and covariances.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", NeurIPS
2017 (https://arxiv.org/abs/1706.08500); Dowson & Landau, "The Fréchet distance between multivariate normal
distributions", 1982.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.moments import Moments, merged, trace_root
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import Result, at_least_zero, normal_interval, signature

__all__ = ["frechet_distance"]


def frechet_distance(real: Any, generated: Any, *, groups: int = 0, ddof: int = 1) -> Result:
    """‖μ₁−μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr √(Σ₁Σ₂), in float64, 0 … ∞, in squared units of the features.

    real, generated: features (n, d), n ≥ 2
    groups:          more than 1 gives a 95 % interval by a delete-a-group jackknife over both sets (2·groups
                     more distances); the bootstrap with replacement would nearly double the distance
    ddof:            1 as in the references; 0 divides by n
    The distance is biased upwards in finite samples: compare at equal n only. It has no floor in closed form.
    Raises CallError for fewer than two samples, differing widths, NaN.
    """
    x, y = pair(real, generated, least=2)
    if groups and not 2 <= groups <= min(len(x), len(y)) // 2:
        raise CallError(f"groups must be 2 … {min(len(x), len(y)) // 2} for these sample sizes, not {groups}")
    if min(len(x), len(y)) <= ddof:
        raise CallError(f"the Fréchet distance needs more than {ddof} samples in each set")
    full = min(len(x), len(y)) > x.shape[1]  # otherwise the moments (d, d) are larger than the features
    a, b = (Moments.of(x), Moments.of(y)) if full else (None, None)
    value = _distance(x, y, a, b, ddof)
    interval = None
    if groups:
        without_x = [_distance(less, y, moments, b, ddof) for less, moments in _without(x, groups, full)]
        without_y = [_distance(x, less, a, moments, ddof) for less, moments in _without(y, groups, full)]
        error = math.sqrt(_jackknife_variance(without_x) + _jackknife_variance(without_y))
        low, high = normal_interval(value, error)
        interval = (max(0.0, low), high)
    text = signature(
        "frechet", ddof=ddof, d=x.shape[1], real=len(x), generated=len(y), jackknife=groups or None
    )
    return Result(value, interval, None, None, (len(x), len(y)), None, text)


def _distance(x: Tensor, y: Tensor, a: Moments | None, b: Moments | None, ddof: int) -> float:
    """From the moments where they have full rank, otherwise from the features."""
    if a is not None and b is not None:
        cov_a, cov_b = a.covariance(ddof), b.covariance(ddof)
        cross = trace_root(cov_a, cov_b)
        if cross is not None:
            shift = a.minus(b).square().sum()
            return at_least_zero(float(shift + cov_a.trace() + cov_b.trace() - 2.0 * cross))
    mean_x, mean_y = x.mean(0), y.mean(0)
    u = (x - mean_x) / math.sqrt(len(x) - ddof)  # Σ₁ = uᵀu
    v = (y - mean_y) / math.sqrt(len(y) - ddof)
    traces = (u * u).sum() + (v * v).sum()
    return at_least_zero(float((mean_x - mean_y).square().sum() + traces - 2.0 * _cross_singular(u, v)))


def _cross_singular(a: Tensor, b: Tensor) -> Tensor:
    """tr √(aᵀa·bᵀb) is the sum of the singular values of a bᵀ: exact at any rank."""
    if len(a) > a.shape[1]:
        a = torch.linalg.qr(a, mode="r").R  # (d, d) with the same aᵀa
    if len(b) > b.shape[1]:
        b = torch.linalg.qr(b, mode="r").R
    return torch.linalg.svdvals(a @ b.T).sum()


def _without(x: Tensor, groups: int, full: bool) -> Iterator[tuple[Tensor, Moments | None]]:
    """x without every groups-th row, from each start on, and its moments where they are wanted."""
    group = torch.arange(len(x), device=x.device) % groups
    # Merged from those of the groups, so that every row is read once, unless they would outgrow the features.
    small = full and groups * x.shape[1] <= len(x)
    parts = [Moments.of(x[g::groups]) for g in range(groups)] if small else []
    for g in range(groups):
        less = x[group != g]
        yield less, merged(parts[:g] + parts[g + 1 :]) if small else Moments.of(less) if full else None


def _jackknife_variance(values: list[float]) -> float:
    """(g−1)/g · Σ (θ₍ᵢ₎ − θ̄)²: variance of θ from its values without one of g groups."""
    g = len(values)
    mean = sum(values) / g
    return (g - 1) / g * sum((v - mean) ** 2 for v in values)
