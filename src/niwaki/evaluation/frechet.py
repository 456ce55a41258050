"""Fréchet distance between two sets of features: of the Gaussians with their means and covariances.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", NeurIPS
2017 (https://arxiv.org/abs/1706.08500); Dowson & Landau, "The Fréchet distance between multivariate normal
distributions", 1982.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from niwaki.contract import CallError
from niwaki.evaluation.arrays import pair
from niwaki.evaluation.result import Result, normal_interval, signature

__all__ = ["frechet_distance"]

_ROUND = 1e-12
"""A variance below this share of the largest is a rounding error: Cholesky's route would take its square
root."""


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
    value = _distance(x, y, ddof)
    interval = None
    if groups:
        without_x = [_distance(_drop(x, g, groups), y, ddof) for g in range(groups)]
        without_y = [_distance(x, _drop(y, g, groups), ddof) for g in range(groups)]
        error = math.sqrt(_jackknife_variance(without_x) + _jackknife_variance(without_y))
        low, high = normal_interval(value, error)
        interval = (max(0.0, low), high)
    text = signature(
        "frechet", ddof=ddof, d=x.shape[1], real=len(x), generated=len(y), jackknife=groups or None
    )
    return Result(value, interval, None, None, (len(x), len(y)), None, text)


def _distance(x: Tensor, y: Tensor, ddof: int) -> float:
    n, m, d = len(x), len(y), x.shape[1]
    if n <= ddof or m <= ddof:
        raise CallError(f"the Fréchet distance needs more than {ddof} samples in each set")
    mean_x, mean_y = x.mean(0), y.mean(0)
    a = (x - mean_x) / math.sqrt(n - ddof)  # Σ₁ = aᵀa
    b = (y - mean_y) / math.sqrt(m - ddof)
    traces = (a * a).sum() + (b * b).sum()
    shift = (mean_x - mean_y).square().sum()
    cross = _cross_cholesky(a, b) if min(n, m) > d else None
    if cross is None:
        cross = _cross_singular(a, b)
    return max(0.0, float(shift + traces - 2.0 * cross))


def _cross_cholesky(a: Tensor, b: Tensor) -> Tensor | None:
    """tr √(Σ₁Σ₂) for full ranks: Σ₁ = LLᵀ, and Σ₁Σ₂ has the eigenvalues of LᵀΣ₂L. None if singular."""
    cov_a, cov_b = a.T @ a, b.T @ b
    lower, info = torch.linalg.cholesky_ex(cov_a)
    diagonal = lower.diagonal().square()
    if int(info) or float(diagonal.min()) <= _ROUND * float(diagonal.max()):
        return None
    eigenvalues = torch.linalg.eigvalsh(lower.T @ cov_b @ lower)
    # A zero eigenvalue would come out as ±ε·λ_max and its root as √ε: only the singular values get those
    # right.
    if float(eigenvalues[0]) <= _ROUND * float(eigenvalues[-1]):
        return None
    return eigenvalues.sqrt().sum()


def _cross_singular(a: Tensor, b: Tensor) -> Tensor:
    """tr √(aᵀa·bᵀb) is the sum of the singular values of a bᵀ: exact at any rank."""
    if len(a) > a.shape[1]:
        a = torch.linalg.qr(a, mode="r").R  # (d, d) with the same aᵀa
    if len(b) > b.shape[1]:
        b = torch.linalg.qr(b, mode="r").R
    return torch.linalg.svdvals(a @ b.T).sum()


def _drop(x: Tensor, group: int, groups: int) -> Tensor:
    """x without every groups-th row, from `group` on."""
    keep = torch.arange(len(x), device=x.device) % groups != group
    return x[keep]


def _jackknife_variance(values: list[float]) -> float:
    """(g−1)/g · Σ (θ₍ᵢ₎ − θ̄)²: variance of θ from its values without one of g groups."""
    g = len(values)
    mean = sum(values) / g
    return (g - 1) / g * sum((v - mean) ** 2 for v in values)
