"""Kernel distance: squared maximum mean discrepancy, unbiased, with an analytic standard error.

Bińkowski et al., "Demystifying MMD GANs", ICLR 2018 (https://arxiv.org/abs/1801.01401); Gretton et al., "A
kernel two-sample test", JMLR 2012. The standard error is the Hoeffding decomposition of the full U-statistic,
with its second order: at equal distributions the first vanishes and the second is all there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from niwaki.contract import CallError
from niwaki.evaluation.arrays import pair
from niwaki.evaluation.result import Result, normal_interval, signature

__all__ = ["kernel_distance"]


@dataclass
class _Sums:
    """Of one kernel matrix: mean and variance of its entries, means of its rows and columns."""

    rows: Tensor
    columns: Tensor
    mean: float
    variance: float


def kernel_distance(
    real: Any,
    generated: Any,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    block: int = 2048,
) -> Result:
    """MMD² = E k(x,x') + E k(y,y') − 2 E k(x,y), k(x,y) = (γ x·y + c)^degree with γ = 1/d.

    real, generated: features (n, d), n ≥ 4
    block:           rows of the kernel matrix worked on at once; memory is block²
    Unbiased, so it may be below 0: the diagonals of real-real and generated-generated are left out, all of
    real-generated is kept. The floor is 0. `per_sample` is the witness of each generated sample: how much
    more it resembles the other generated ones than the real ones.
    Raises CallError for fewer than four samples, differing widths, NaN.
    """
    if degree < 1:
        raise CallError(f"the kernel's degree must be at least 1, not {degree}")
    x, y = pair(real, generated, least=4)
    scale = 1.0 / x.shape[1] if gamma is None else gamma
    kernel = (scale, coef, degree)
    n, m = len(x), len(y)
    xx, yy, xy = _sums(x, x, kernel, block), _sums(y, y, kernel, block), _sums(x, y, kernel, block)
    value = xx.mean + yy.mean - 2.0 * xy.mean
    witness_x = xx.rows - xy.rows  # a(x) = E k(x,X') − E k(x,Y), up to a constant
    witness_y = yy.rows - xy.columns
    # Second-order components: Var k = (variance explained by rows and columns) + δ; sample row means carry
    # δ/n of noise.
    d_xx = max(0.0, (xx.variance - 2.0 * float(xx.rows.var())) / (1.0 - 2.0 / (n - 1)))
    d_yy = max(0.0, (yy.variance - 2.0 * float(yy.rows.var())) / (1.0 - 2.0 / (m - 1)))
    d_xy = max(
        0.0, (xy.variance - float(xy.rows.var()) - float(xy.columns.var())) / (1.0 - 1.0 / n - 1.0 / m)
    )
    # Var = 4ζ₁/n + 4ζ₂/m + 2δ₁₁/n(n−1) + 2δ₂₂/m(m−1) + 4δ₁₂/nm. The sample variances of the witnesses hold ζ
    # and twice the second order, hence the minus.
    second = 2.0 * d_xx / (n * (n - 1)) + 2.0 * d_yy / (m * (m - 1)) + 4.0 * d_xy / (n * m)
    variance = 4.0 * float(witness_x.var()) / n + 4.0 * float(witness_y.var()) / m - second
    error = math.sqrt(max(variance, second))
    text = signature(
        "kernel",
        kernel=f"({scale:.6g}·x·y+{coef:g})^{degree}",
        estimator="u",
        d=x.shape[1],
        real=n,
        generated=m,
    )
    return Result(value, normal_interval(value, error), 0.0, witness_y.cpu().numpy(), (n, m), None, text)


def _sums(x: Tensor, y: Tensor, kernel: tuple[float, float, int], block: int) -> _Sums:
    """Row and column means of k(x, y); where x is y without the diagonal, and each block above it counted
    twice."""
    same = x is y
    rows = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    columns = rows if same else torch.zeros(len(y), dtype=torch.float64, device=x.device)
    squares = torch.zeros((), dtype=torch.float64, device=x.device)
    # The squares are taken about a typical value: a variance must not be a difference of large sums.
    shift = _kernel(x[:block], y[:block], kernel).mean()
    for i in range(0, len(x), block):
        for j in range(i if same else 0, len(y), block):
            k = _kernel(x[i : i + block], y[j : j + block], kernel).sub_(shift)
            if same and i == j:
                k.fill_diagonal_(0.0)
            rows[i : i + block] += k.sum(1)
            if not same or i != j:
                columns[j : j + block] += k.sum(0)
            squares += k.square_().sum() * (2.0 if same and i != j else 1.0)
    count_row, count_column = len(y) - same, len(x) - same
    total = len(x) * count_row
    centred = float(rows.sum()) / total
    variance = float(squares) / total - centred**2
    return _Sums(rows / count_row + shift, columns / count_column + shift, centred + float(shift), variance)


def _kernel(x: Tensor, y: Tensor, kernel: tuple[float, float, int]) -> Tensor:
    """(scale·x·y + coef)^degree; by products, because a general power takes ten times as long."""
    scale, coef, degree = kernel
    base = (x @ y.T).mul_(scale).add_(coef)
    out = base.clone() if degree > 1 else base
    for _ in range(degree - 1):
        out *= base
    return out
