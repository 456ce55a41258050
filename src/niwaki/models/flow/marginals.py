"""Each value through its own distribution function to a standard normal: where a flow on data begins."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Marginals"]

# Φ(y) ≈ σ(a y + b y³), absolute error below 2e-4 (Page 1977; the constants are those of Bowling et al. 2009):
# unlike Φ it has a closed inverse, so both directions are exact whatever it approximates.
_A, _B = 1.5976, 0.070565
_P = _A / _B
_EDGE = 1e-6


def _logit_of(y: Tensor) -> Tensor:
    return y * (_A + _B * y.square())


def _normal_of(logit: Tensor) -> Tensor:
    """The real root of b y³ + a y = logit, by hyperbolic functions; odd, so it is found for the amount."""
    a = logit.abs() * (1.5 / (_B * _P) * math.sqrt(3.0 / _P))
    root = torch.exp(torch.log(a + torch.sqrt(a.square() + 1.0)) / 3.0)  # e^(arsinh(a)/3)
    return torch.sign(logit) * math.sqrt(_P / 3.0) * (root - 1.0 / root)


class Marginals(nn.Module):
    """y = Φ⁻¹(F(x)), value by value: F is the distribution function of a histogram with equal cells.

    It does what the logit does in Dinh et al. 2017, Section 4.1, and more: after `fit` every value is normal
    by itself, and a flow that adds nothing has the likelihood of independent values (the first step of
    Gaussianization, Chen & Gopinath 2000). Values outside of `low` … `high` count as at the edge.

    size:      values of a sample
    low, high: outer edges of the histogram
    cells:     their number; all are equally likely until `fit`
    """

    mass: Tensor  # (cells, size), of each cell
    below: Tensor  # (cells, size), of all cells before it
    above: Tensor  # (cells, size), of all cells after it

    def __init__(self, size: int, low: float, high: float, cells: int) -> None:
        super().__init__()
        self.low, self.width, self.cells = low, (high - low) / cells, cells
        for name in ("mass", "below", "above"):
            self.register_buffer(name, torch.zeros(cells, size))
        self.fit(torch.zeros(1, size), prior=0.0)

    def fit(self, x: Tensor, *, prior: float = 0.5) -> None:
        """Take the histograms of samples `(n, size)`; every cell counts `prior` samples more than it holds
        (without samples or a prior all are alike). In place."""
        cell, _ = self._place(x)
        one = torch.zeros_like(self.mass, dtype=torch.float64)
        counts = one.scatter_add(0, cell, torch.ones_like(x, dtype=torch.float64))
        mass = counts + prior if prior > 0 else torch.ones_like(counts)
        mass = mass / mass.sum(0)
        below = torch.cumsum(mass, 0) - mass
        above = torch.cumsum(mass.flip(0), 0).flip(0) - mass  # not 1 − …: the upper tail keeps its digits
        for name, value in {"mass": mass, "below": below, "above": above}.items():
            getattr(self, name).copy_(value)

    def _place(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cell of each value, and where in it, 0 … 1."""
        at = (x - self.low) / self.width
        cell = at.floor().clamp(0, self.cells - 1)
        return cell.long(), (at - cell).clamp(_EDGE, 1.0 - _EDGE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x `(n, size)` → y and log|det ∂y/∂x| `(n,)`."""
        y, slopes = self.each(x)
        return y, slopes.sum(1)

    def each(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x `(n, size)` → y and log ∂y/∂x of each value `(n, size)`."""
        cell, t = self._place(x)
        mass = self.mass.gather(0, cell)
        u = self.below.gather(0, cell) + mass * t
        rest = self.above.gather(0, cell) + mass * (1.0 - t)  # 1 − u
        y = _normal_of(torch.log(u) - torch.log(rest))
        # dy/du = (1/u + 1/(1−u)) / (a + 3 b y²)
        rise = torch.log((u + rest) / (u * rest)) - torch.log(_A + 3.0 * _B * y.square())
        return y, torch.log(mass / self.width) + rise

    def inverse(self, y: Tensor) -> Tensor:
        logit = _logit_of(y)
        u, rest = torch.sigmoid(logit), torch.sigmoid(-logit)
        # The side on which the tail is short has the digits.
        lower = u < 0.5
        beyond = torch.where(  # of amounts: engines have no choice between truths
            lower[:, None], u[:, None] - self.below[None, 1:], self.above[None, :-1] - rest[:, None]
        )
        cell = (beyond >= 0.0).long().sum(1)
        mass, below, above = (table.gather(0, cell) for table in (self.mass, self.below, self.above))
        whole = below + mass + above  # 1 but for the rounding of the tables, which `forward` divides by, too
        t = torch.where(lower, (u * whole - below) / mass, 1.0 - (rest * whole - above) / mass)
        return self.low + self.width * (cell.to(y.dtype) + t.clamp(0.0, 1.0))
