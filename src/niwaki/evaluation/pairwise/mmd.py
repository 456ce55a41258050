"""Squared maximum mean discrepancy for any kernel: U-statistic, standard error, permutations.

Gretton et al., "A kernel two-sample test", JMLR 2012 (https://jmlr.org/papers/v13/gretton12a.html); Helmers,
"On the Edgeworth expansion and the bootstrap approximation for a Studentized U-statistic", Annals of
Statistics 1991.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.result import Z95, normal_interval

__all__ = ["Discrepancy", "Kernel", "Sums", "discrepancy", "joined", "permuted"]

Kernel = Callable[[Tensor, Tensor], Tensor]
"""k of all pairs of the rows of (n, d) and (m, d): (n, m), a new tensor that may be written to."""

_SPREAD = 1024
"""Samples of each set that the skewness is measured on."""


@dataclass(frozen=True)
class Discrepancy:
    """E k(x,x') + E k(y,y') − 2 E k(x,y), unbiased.

    value, error:       MMD² and its standard error
    skew:               what skewness moves the lower and the upper end of an interval by
    witness:            of each y: how much more it resembles the other y than the x, (m,)
    within_x, within_y: means of k(x,x') and k(y,y') without the diagonals
    """

    value: float
    error: float
    skew: tuple[float, float]
    witness: Tensor
    within_x: float
    within_y: float

    def interval(self, extra: float = 0.0) -> tuple[float, float]:
        """95 %. extra: another, independent standard error."""
        low, high = normal_interval(self.value, math.hypot(self.error, extra))
        return (low + self.skew[0], high + self.skew[1])


@dataclass
class Sums:
    """Of one kernel matrix: mean and variance of its entries, means of its rows and columns."""

    rows: Tensor
    columns: Tensor
    mean: float
    variance: float


def discrepancy(x: Tensor, y: Tensor, kernel: Kernel, block: int) -> Discrepancy:
    """x (n, d), y (m, d), at least four rows each; memory is block².

    The standard error is the Hoeffding decomposition of the full U-statistic with its second order: at equal
    distributions the first vanishes and the second is all there is.
    """
    xx, yy, xy = _sums(x, x, kernel, block), _sums(y, y, kernel, block), _sums(x, y, kernel, block)
    return joined(xx, yy, xy, x, y, kernel)


def joined(xx: Sums, yy: Sums, xy: Sums, x: Tensor, y: Tensor, kernel: Kernel) -> Discrepancy:
    """The discrepancy from the sums of the three kernel matrices; `kernel` is asked about a few pairs of x
    and y, for the skewness."""
    n, m = len(x), len(y)
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
    skew = _skew(x, y, witness_x, witness_y, kernel, error) if error > 0 else 0.0
    # It belongs to the first order. The interval is lengthened by it at once, but shortened only where the
    # second order is far behind: the value beyond 4 … 8 of the standard errors of equal distributions.
    far = (value / math.sqrt(second) if second > 0 else math.inf) if error > 0 else 0.0
    part = skew * min(1.0, max(0.0, far / 4.0 - 1.0))
    if error == 0 and value == 0 and not (_one(x) and _one(y)):
        raise CallError("the kernel takes all samples for alike, or all for strangers; change its width")
    ends = (part, skew) if skew > 0 else (skew, part)
    return Discrepancy(value, error, ends, witness_y, xx.mean, yy.mean)


def _one(x: Tensor) -> bool:
    """Whether all rows are equal."""
    return bool((x == x[:1]).all())


def _skew(x: Tensor, y: Tensor, witness_x: Tensor, witness_y: Tensor, kernel: Kernel, error: float) -> float:
    """What the skewness of the studentised U-statistic moves a 95 % interval by.

    With the influences I of the samples: ((2z²+1) Σ I³ + 3(z²+1)·2 E[I I' k]) / 6 se² (Helmers 1991, for
    two samples). The second term is the one that counts: where the distance comes out small, so does
    its error. It is an expectation over pairs and comes from evenly spread samples, at most 1024 of each set.
    """
    of_x, of_y = 2.0 * (witness_x - witness_x.mean()) / len(x), 2.0 * (witness_y - witness_y.mean()) / len(y)
    third = float((of_x**3).sum() + (of_y**3).sum())
    (x, of_x), (y, of_y) = (
        (v[:: -(-len(v) // _SPREAD)], w[:: -(-len(v) // _SPREAD)]) for v, w in ((x, of_x), (y, of_y))
    )
    of_x, of_y = of_x - of_x.mean(), of_y - of_y.mean()
    n, m = len(x), len(y)
    pairs = of_x @ kernel(x, x).fill_diagonal_(0.0) @ of_x / n**2
    pairs += of_y @ kernel(y, y).fill_diagonal_(0.0) @ of_y / m**2
    pairs -= 2.0 * (of_x @ kernel(x, y) @ of_y) / (n * m)
    z2 = Z95 * Z95
    return ((2.0 * z2 + 1.0) * third + 6.0 * (z2 + 1.0) * float(pairs)) / (6.0 * error**2)


def permuted(
    x: Tensor, y: Tensor, kernel: Kernel, block: int, *, count: int, seed: int
) -> tuple[float, np.ndarray]:
    """MMD² and its values under `count` random exchanges of the labels, (count,), from one pass over the
    pairs.

    With z = 1 for the rows labelled x: Σ k(x,x') = zᵀKz, Σ k(y,y') = (1−z)ᵀK(1−z), Σ k(x,y) = zᵀK(1−z), K
    without its diagonal: one product of each block of K with all labellings.
    """
    n, m = len(x), len(y)
    both = torch.cat([x, y])
    rng = np.random.default_rng(seed)
    label = np.zeros((n + m, count + 1))
    label[:n] = 1.0
    label[:, 1:] = rng.permuted(label[:, 1:], axis=0)
    z = torch.from_numpy(label).to(x.device)
    kz, rows = torch.zeros_like(z), torch.zeros(n + m, dtype=torch.float64, device=x.device)
    shift = kernel(both[:block], both[-block:]).mean()  # a constant changes nothing but the rounding
    for i in range(0, n + m, block):
        for j in range(i, n + m, block):
            k = kernel(both[i : i + block], both[j : j + block]).sub_(shift)
            if i == j:
                k.fill_diagonal_(0.0)
            kz[i : i + block] += k @ z[j : j + block]
            rows[i : i + block] += k.sum(1)
            if i != j:
                kz[j : j + block] += k.T @ z[i : i + block]
                rows[j : j + block] += k.sum(0)
    xx = (z * kz).sum(0)
    xy = ((1.0 - z) * kz).sum(0)
    yy = rows.sum() - xx - 2.0 * xy
    values = (xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2.0 * xy / (n * m)).cpu().numpy()
    return float(values[0]), values[1:]


def _sums(x: Tensor, y: Tensor, kernel: Kernel, block: int) -> Sums:
    """Row and column means of k(x, y); where x is y without the diagonal, and each block above it counted
    twice."""
    same = x is y
    rows = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    columns = rows if same else torch.zeros(len(y), dtype=torch.float64, device=x.device)
    squares = torch.zeros((), dtype=torch.float64, device=x.device)
    # The squares are taken about a typical value: a variance must not be a difference of large sums.
    shift = kernel(x[:block], y[:block]).mean()
    for i in range(0, len(x), block):
        for j in range(i if same else 0, len(y), block):
            k = kernel(x[i : i + block], y[j : j + block]).sub_(shift)
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
    return Sums(rows / count_row + shift, columns / count_column + shift, centred + float(shift), variance)
