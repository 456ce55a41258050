"""Mean and covariance of a stream of features, and the Fréchet distance of two such.

Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1982;
Dowson & Landau, "The Fréchet distance between multivariate normal distributions", 1982.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from scipy.linalg.lapack import dsygst
from torch import Tensor

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.arrays import features
from niwaki.evaluation.statistics.result import at_least_zero

__all__ = ["Moments", "Transport", "frechet_from_moments", "merged", "trace_root", "transport"]

_BLOCK = 8192
"""Rows centred at once."""
_ROUND = 1e-12
"""A variance below this share of the largest is a rounding error: Cholesky's route would take its square
root."""


class Moments:
    """Number, mean and scatter of the rows seen so far, in float64; memory is d², however many there are.

    n:       rows
    mean:    (d,)
    scatter: Σ (x − mean)(x − mean)ᵀ, (d, d)
    Sums of squares are never subtracted from one another, and everything is measured from the first row seen:
    features with a large mean lose no digits.
    """

    def __init__(self, d: int, device: torch.device | str = "cpu") -> None:
        if d < 1:
            raise CallError(f"moments need at least one feature, not {d}")
        self.n = 0
        self._origin = torch.zeros(d, dtype=torch.float64, device=device)
        self._offset = torch.zeros(d, dtype=torch.float64, device=device)  # mean − origin
        self.scatter = torch.zeros((d, d), dtype=torch.float64, device=device)

    @property
    def mean(self) -> Tensor:
        return self._origin + self._offset

    @classmethod
    def of(cls, x: Tensor) -> Moments:
        """Moments of the rows of x, (n, d)."""
        return cls(x.shape[1], x.device).add(x)

    def add(self, batch: Any) -> Moments:
        """Rows of features (n, d), numpy or torch. Raises CallError for another width, NaN, infinity."""
        rows = features(batch, "batch").to(self.scatter.device)
        if rows.shape[1] != len(self.scatter):
            raise CallError(f"the moments are of {len(self.scatter)} features, the batch has {rows.shape[1]}")
        if not self.n:
            self._origin = rows[0].clone()
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK] - self._origin
            mean = part.mean(0)
            self._join(len(part), mean, _squared(part.sub_(mean)))
        return self

    def merge(self, other: Moments) -> Moments:
        """The rows of both; `other` stays as it is."""
        if len(other.scatter) != len(self.scatter):
            raise CallError(
                f"moments of {len(self.scatter)} and of {len(other.scatter)} features do not merge"
            )
        device = self.scatter.device
        if other.n:
            if not self.n:
                self._origin = other._origin.to(device, copy=True)
            offset = other._offset.to(device) + (other._origin.to(device) - self._origin)
            self._join(other.n, offset, other.scatter.to(device))
        return self

    def minus(self, other: Moments) -> Tensor:
        """Mean less the other mean, (d,)."""
        device = self.scatter.device
        return (self._origin - other._origin.to(device)) + (self._offset - other._offset.to(device))

    def covariance(self, ddof: int = 1) -> Tensor:
        """Scatter / (n − ddof), (d, d). Raises CallError for n ≤ ddof."""
        if self.n <= ddof:
            raise CallError(f"a covariance with ddof {ddof} needs more than {self.n} samples")
        return self.scatter / (self.n - ddof)

    def _join(self, n: int, offset: Tensor, scatter: Tensor) -> None:
        # S = S₁ + S₂ + n₁n₂/(n₁+n₂)·δδᵀ (Chan et al., equation 2.1)
        total = self.n + n
        delta = offset - self._offset
        self.scatter += scatter
        self.scatter.addr_(delta, delta, alpha=self.n * n / total)
        self._offset += delta * (n / total)
        self.n = total


def merged(parts: Iterable[Moments]) -> Moments:
    """Moments of the rows of all parts."""
    first, *rest = parts
    out = Moments(len(first.scatter), first.scatter.device).merge(first)
    for part in rest:
        out.merge(part)
    return out


def frechet_from_moments(a: Moments, b: Moments, *, ddof: int = 1) -> float:
    """‖μ₁−μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr √(Σ₁Σ₂) of two sets known by their moments alone, 0 … ∞.

    Meant for more samples than features. Where a covariance has no full rank, its range must be guessed from
    rounded eigenvalues, which may cost 1e-6 of the traces: `frechet_distance` has the features themselves and
    does not pay it.
    Raises CallError for differing widths, and for n ≤ ddof.
    """
    if len(a.scatter) != len(b.scatter):
        raise CallError(f"moments of {len(a.scatter)} and of {len(b.scatter)} features have no distance")
    cov_a, cov_b = a.covariance(ddof), b.covariance(ddof).to(a.scatter.device)
    cross = trace_root(cov_a, cov_b)
    if cross is None:
        # tr √(AAᵀBBᵀ) is the sum of the singular values of AᵀB.
        cross = torch.linalg.svdvals(_factor(cov_a)[0].T @ _factor(cov_b)[0]).sum()
    shift = a.minus(b).square().sum()
    return at_least_zero(float(shift + cov_a.trace() + cov_b.trace() - 2.0 * cross))


def trace_root(cov_a: Tensor, cov_b: Tensor) -> Tensor | None:
    """tr √(Σ₁Σ₂) for full ranks: Σ₁ = LLᵀ, and Σ₁Σ₂ has the eigenvalues of LᵀΣ₂L. None if singular."""
    lower = _cholesky(cov_a)
    if lower is None:
        return None
    eigenvalues = torch.linalg.eigvalsh(_congruent(cov_b, lower))
    # A zero eigenvalue would come out as ±ε·λ_max and its root as √ε: only the singular values get those
    # right.
    if float(eigenvalues[0]) <= _ROUND * float(eigenvalues[-1]):
        return None
    return eigenvalues.sqrt().sum()


@dataclass(frozen=True)
class Transport:
    """The optimal maps between two Gaussians: x ↦ μ₂ + T(x − μ₁) and back.

    distance: Fréchet distance
    forth:    T, symmetric (d, d), zero outside the range of Σ₁
    back:     the map of the second onto the first, symmetric (d, d), zero outside the range of Σ₂
    """

    distance: float
    forth: Tensor
    back: Tensor

    @staticmethod
    def influence(x: Tensor, own: Moments, other: Moments, map_: Tensor) -> Tensor:
        """∂ distance / ∂ weight of each row of x, centred, (n,): the infinitesimal jackknife.

        From ∂/∂Σ₁ tr √(Σ₁Σ₂) = T/2: 2(μ₁−μ₂)·(x−μ₁) + (x−μ₁)ᵀ(I−T)(x−μ₁), less its mean.
        """
        shift = 2.0 * own.minus(other)
        mean = own.mean
        out = torch.empty(len(x), dtype=torch.float64, device=x.device)
        for start in range(0, len(x), _BLOCK):
            u = x[start : start + _BLOCK] - mean
            out[start : start + _BLOCK] = u @ shift + ((u - u @ map_) * u).sum(1)
        return out - out.mean()


def transport(a: Moments, b: Moments, *, ddof: int = 1) -> Transport:
    """The distance with what its derivatives need: T = A⁻ᵀ√(AᵀΣ₂A) A⁻¹ for Σ₁ = AAᵀ.

    Raises CallError for n ≤ ddof.
    """
    cov_a, cov_b = a.covariance(ddof), b.covariance(ddof)
    root, inverse = _factor(cov_a)
    values, u = torch.linalg.eigh(root.T @ cov_b @ root)
    if len(values) == len(cov_a) and float(values[0]) > _ROUND * float(values[-1]):
        half = values.sqrt()
        left, right = inverse.T @ u, root @ u
        forth, back = (left * half) @ left.T, (right / half) @ right.T
    else:  # AᵀB = U·S·Vᵀ for Σ₂ = BBᵀ: S itself, and not the root of a rounded S²
        other, other_inverse = _factor(cov_b)
        u, half, v = torch.linalg.svd(root.T @ other, full_matrices=False)
        left, right = inverse.T @ u, other_inverse.T @ v.T
        forth, back = (left * half) @ left.T, (right * half) @ right.T
    shift = a.minus(b).square().sum()
    return Transport(
        at_least_zero(float(shift + cov_a.trace() + cov_b.trace() - 2.0 * half.sum())), forth, back
    )


def _squared(x: Tensor) -> Tensor:
    """xᵀx (d, d): on a processor by numpy, which knows that it is symmetric and does half of the work."""
    if x.device.type != "cpu":
        return x.T @ x
    rows = x.numpy()
    return torch.from_numpy(rows.T @ rows)


def _congruent(cov: Tensor, lower: Tensor) -> Tensor:
    """LᵀΣL (d, d), of which only the lower triangle counts: on a processor by LAPACK's dsygst, in a third of
    two products."""
    if cov.device.type != "cpu":
        return lower.T @ cov @ lower
    # The transpose of a row-major matrix is column-major: L as the upper factor Lᵀ, without a copy.
    found, info = dsygst(cov.numpy().T, lower.numpy().T, itype=2, lower=0)
    assert info == 0
    return torch.from_numpy(found.T)


def _cholesky(cov: Tensor) -> Tensor | None:
    """L with Σ = LLᵀ, None where Σ is singular."""
    lower, info = torch.linalg.cholesky_ex(cov)
    diagonal = lower.diagonal().square()
    return None if int(info) or float(diagonal.min()) <= _ROUND * float(diagonal.max()) else lower


def _factor(cov: Tensor) -> tuple[Tensor, Tensor]:
    """A (d, r) with Σ = AAᵀ, and A⁻¹ (r, d), its inverse on the range of Σ; r is the rank."""
    lower = _cholesky(cov)
    if lower is not None:
        eye = torch.eye(len(cov), dtype=cov.dtype, device=cov.device)
        return lower, torch.linalg.solve_triangular(lower, eye, upper=False)
    values, vectors = torch.linalg.eigh(cov)
    keep = values > len(cov) * torch.finfo(cov.dtype).eps * values[-1]
    root, vectors = values[keep].sqrt(), vectors[:, keep]
    return vectors * root, (vectors / root).T
