"""Kernels of the sweep: sums over all pairs from float32 products, and the kernel distance made of them.

A tile holds squared distances; with the norms of both sides these are products again, x·y = (‖x‖² + ‖y‖² −
‖x−y‖²)/2. Entries are float32, off by about 2⁻²⁴·√d with random signs; they are summed about a typical value,
at most a tile's width in float32 and from there on in float64. Means over all pairs agree with float64 to
about 1e-8 of the kernel's size, means of single rows to about 1e-7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from niwaki.core.contract import CallError
from niwaki.evaluation.pairwise.mmd import Sums, joined
from niwaki.evaluation.pairwise.ranks import Ranks
from niwaki.evaluation.pairwise.tiles import Tile, Tiles
from niwaki.evaluation.statistics.result import Result, signature

__all__ = ["RBF", "Kernel", "KernelSums", "Polynomial", "check_scale", "distance"]

_DROWNED = 1e-12
_MOST = 1e18
"""Of an entry: float32 holds its square."""
_FEW = 128
"""Samples of each set from which a typical value of the kernel is taken."""


@dataclass(frozen=True)
class Polynomial:
    """(γ x·y + c)^degree; γ = 1/d where None."""

    degree: int = 3
    gamma: float | None = None
    coef: float = 1.0

    def __post_init__(self) -> None:
        if self.degree < 1:
            raise CallError(f"the kernel's degree must be at least 1, not {self.degree}")

    def text(self, d: int) -> str:
        gamma = 1.0 / d if self.gamma is None else self.gamma
        return f"({gamma:.6g}·x·y+{self.coef:g})^{self.degree}"


@dataclass(frozen=True)
class RBF:
    """exp(−‖x−y‖²/2σ²); of samples scaled to length 1 where `normalise`.

    With σ = 10 the distance is CMMD without its factor of 1000 (Jayasumana et al., "Rethinking FID", CVPR
    2024).
    """

    sigma: float = 10.0
    normalise: bool = True

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise CallError(f"the kernel's sigma must be above 0, not {self.sigma}")

    def text(self, d: int) -> str:
        return f"rbf(σ={self.sigma:g}{', length 1' if self.normalise else ''})"


Kernel = Polynomial | RBF


def check_scale(largest: float, gamma: float, coef: float, degree: int, most: float = 1e75) -> None:
    """Raises CallError for features that are too large or too small for (γ x·y + c)^degree.

    largest: squared norm; most: what the kernel may reach
    Where γ x·y drowns in the rounding of c, all samples are alike and every distance is 0.
    """
    reach = abs(gamma) * largest
    advice = "scale all features by one factor"
    if 0 < reach < _DROWNED * abs(coef):
        raise CallError(
            f"the features are too small for a kernel: γ x·y reaches {reach:.3g} beside {coef:g}; {advice}"
        )
    if not math.log(max(reach + abs(coef), 1.0)) * degree < math.log(most):
        raise CallError(
            f"the features are too large for a kernel of degree {degree}: γ x·y reaches {reach:.3g}; {advice}"
        )


class KernelSums:
    """Of one kernel matrix: mean and variance of its entries, means of its rows and columns.

    Where a set meets itself the diagonal is left out. `finish` fills rows, columns (float64), mean, variance.
    """

    rows: Tensor
    columns: Tensor
    mean: float
    variance: float

    def __init__(self, tiles: Tiles, kernel: Kernel, x2: Tensor, y2: Tensor) -> None:
        """x2, y2: squared norms of the features as they are, float64."""
        self.tiles, self.kernel = tiles, kernel
        n, m, device = len(tiles.x), len(tiles.y), x2.device
        self._rows = torch.zeros(n, dtype=torch.float64, device=device)
        self._columns = self._rows if tiles.same else torch.zeros(m, dtype=torch.float64, device=device)
        self._squares = torch.zeros((), dtype=torch.float64, device=device)
        self._ones = torch.ones(tiles.block, device=device)
        # d² = (lower + e_row + e_column)/unit, so that the kernel's argument, γ x·y + c or −d²/2σ², is
        # slope·lower + p_row + q_column, and with samples of length 1 that times a factor of each.
        d2x, d2y = tiles.x_error / tiles.unit, tiles.y_error / tiles.unit
        self._factors: tuple[Tensor, Tensor] | None = None
        if isinstance(kernel, RBF) and not kernel.normalise:
            slope = -0.5 / kernel.sigma**2
            p, q = slope * d2x, slope * d2y
        else:
            gamma, coef = _affine(kernel, tiles.x.shape[1])
            slope = -0.5 * gamma
            p, q = 0.5 * (gamma * (x2 - d2x) + coef), 0.5 * (gamma * (y2 - d2y) + coef)
        if isinstance(kernel, RBF) and kernel.normalise:
            if not bool((x2 > 0).all() and (y2 > 0).all()):
                raise CallError("a sample whose features are all 0 cannot be scaled to length 1")
            self._factors = ((x2.rsqrt() / kernel.sigma**2).float(), y2.rsqrt().float())
        self._p, self._q, self._slope = p.float(), q.float(), slope / tiles.unit
        if isinstance(kernel, Polynomial):
            check_scale(float(torch.maximum(x2.max(), y2.max())), gamma, coef, kernel.degree, most=_MOST)
        # Sums are taken about a typical value: a variance must not be a difference of large ones. It is the
        # same to the last bit in both precisions.
        some = _slow(tiles.x[:_FEW].double(), tiles.y[-_FEW:].double(), kernel).mean()
        self._shift = float(some.float())
        self._minus_shift = torch.full((), -self._shift, device=device)

    def add(self, tile: Tile, lower: Tensor) -> None:
        """A tile of lower bounds of the squared distances."""
        k = self._argument(tile, lower)
        shift = self._shift
        if isinstance(self.kernel, RBF):
            if shift > 0.5:  # what a value near 1 would round away
                k.expm1_().sub_(shift - 1.0)
            else:
                k.exp_().sub_(shift)
        else:
            self._power(k, self.kernel.degree)
        if tile.diagonal:
            k.fill_diagonal_(0.0)
        mirrored = self.tiles.same and not tile.diagonal
        self._rows[tile.rows] += torch.mv(k, self._ones[: k.shape[1]])
        if mirrored or not self.tiles.same:
            self._columns[tile.columns] += torch.mv(k.T, self._ones[: k.shape[0]])
        squares = torch.linalg.vector_norm(k, dim=1).double().square().sum()
        self._squares += squares * (2.0 if mirrored else 1.0)

    def _power(self, k: Tensor, degree: int) -> None:
        """k^degree − shift, by products: a general power takes ten times as long."""
        if degree == 1:
            k.sub_(self._shift)
            return
        rest = k
        if degree > 2:
            rest = torch.mul(k, k, out=self.tiles.buffer("rest", *k.shape))
        for _ in range(degree - 3):
            rest.mul_(k)
        torch.addcmul(self._minus_shift, k, rest, out=k)

    def _argument(self, tile: Tile, lower: Tensor) -> Tensor:
        """γ x·y + c, or the exponent."""
        out = self.tiles.buffer("kernel", *lower.shape)
        torch.sub(self._q[None, tile.columns], lower, alpha=-self._slope, out=out)
        out.add_(self._p[tile.rows, None])
        if self._factors is not None:  # (cos − 1)/σ² = −‖x/|x| − y/|y|‖²/2σ²
            out.mul_(self._factors[0][tile.rows, None]).mul_(self._factors[1][None, tile.columns])
            out.sub_(self.kernel.sigma**-2)  # type: ignore[union-attr]
        return out

    def finish(self, ranks: Ranks) -> KernelSums:
        """Joins the processes and takes the means."""
        ranks.all_reduce_sum(self._rows)
        if not self.tiles.same:
            ranks.all_reduce_sum(self._columns)
        ranks.all_reduce_sum(self._squares)
        n, m, same = len(self._rows), len(self._columns), self.tiles.same
        total = n * (m - same)
        centred = float(self._rows.sum()) / total
        self.found = Sums(
            rows=self._rows / (m - same) + self._shift,
            columns=self._columns / (n - same) + self._shift,
            mean=centred + self._shift,
            variance=float(self._squares) / total - centred**2,
        )
        return self


def distance(xx: KernelSums, yy: KernelSums, xy: KernelSums) -> Result:
    """MMD² = E k(x,x') + E k(y,y') − 2 E k(x,y), unbiased, with the interval of `kernel_distance`."""
    n, m, kernel = len(xy.found.rows), len(xy.found.columns), xy.kernel

    def some(x: Tensor, y: Tensor) -> Tensor:  # the few pairs of the skewness
        return _slow(x.float(), y.float(), kernel).double()

    found = joined(xx.found, yy.found, xy.found, xy.tiles.x, xy.tiles.y, some)
    d = xy.tiles.x.shape[1]
    text = signature("kernel", kernel=kernel.text(d), estimator="u", d=d, real=n, generated=m)
    return Result(found.value, found.interval(), 0.0, found.witness.cpu().numpy(), (n, m), None, text)


def _affine(kernel: Kernel, d: int) -> tuple[float, float]:
    """γ and c of γ x·y + c; of the cosine's numerator 1 and 0."""
    if isinstance(kernel, RBF):
        return 1.0, 0.0
    return (1.0 / d if kernel.gamma is None else kernel.gamma), kernel.coef


def _slow(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """The kernel of a few samples, in their own precision."""
    if isinstance(kernel, RBF):
        if kernel.normalise:
            x, y = (v / v.norm(dim=1, keepdim=True) for v in (x, y))
        return torch.cdist(x, y).square().mul(-0.5 / kernel.sigma**2).exp()
    gamma, coef = _affine(kernel, x.shape[1])
    return (x @ y.T * gamma + coef) ** kernel.degree
