"""MIND: sliced Wasserstein distance, the mean transport cost along random directions.

Berthet et al., "MIND: Monge Inception Distance for generative models evaluation", 2026
(https://arxiv.org/abs/2605.06797); Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures",
2015.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import Result, normal_interval, signature

__all__ = ["mind"]

_VALUES = 1 << 21
"""Projections held at once."""
_BASES = 8
"""Bases from which on the spread between them is an estimate."""


def mind(
    real: Any, generated: Any, *, directions: int = 1000, seed: int = 0, compat: str | None = None
) -> Result:
    """3d · mean over directions u of W₂²(u·real, u·generated), 0 … ∞, in squared units of the features.

    real, generated: features (n, d), n ≥ 2
    directions:      of length 1, taken as whole random bases of orthogonal ones where there are d or more (so
                     their number is rounded up to a multiple of d)
    seed:            of the directions
    compat:          None as said. "torch-fidelity": independent directions in float32 from torch's generator
                     (its own seed is 2020), and of the larger set a random part as large as the smaller one
    A shift by v costs 3‖v‖², a shift by μ in every feature 3dμ²: E (u·v)² = ‖v‖²/d, and over a whole basis
    that holds exactly. Sets of different sizes are compared by their quantile functions, which are steps:
    W₂² = ∫₀¹ (F⁻¹ − G⁻¹)² is a finite sum over the merged steps, nothing is interpolated or thrown away.
    Biased upwards in finite samples: compare at equal n only; the floor is not known in closed form. The
    interval holds two errors: of the samples (infinitesimal jackknife: the transport's dual potentials are
    the derivatives by the samples' weights), and of the directions (from the spread between bases; fewer than
    8 of them: an upper bound, as if directions were independent). `per_sample` is the mean potential of each
    generated sample, centred: how much more than the average one it costs to bring it to the real ones (None
    where `compat` left samples out).
    Raises CallError for fewer than two samples or directions, differing widths, NaN, an unknown `compat`.
    """
    if compat not in (None, "torch-fidelity"):
        raise CallError(f"compat '{compat}' is not known; {nearest(str(compat), ['torch-fidelity'])}")
    if directions < 2:
        raise CallError(f"directions must be at least 2, not {directions}")
    x, y = pair(real, generated, least=2)
    sizes, d = (len(x), len(y)), x.shape[1]
    generator = torch.Generator().manual_seed(seed)
    if compat:
        n = min(sizes)
        if len(x) > n:
            x = x[torch.randperm(len(x), generator=generator)[:n].to(x.device)]
        if len(y) > n:
            y = y[torch.randperm(len(y), generator=generator)[:n].to(y.device)]
        u = torch.randn(directions, d, generator=generator)
        u = (u / u.norm(dim=1, keepdim=True)).double()
    else:
        u = _orthogonal(directions, d, generator)
    cost, of_x, of_y = _transport(x, y, u.to(x.device))
    value = 3.0 * d * float(cost.mean())
    of_samples = float(of_x.var()) / len(x) + float(of_y.var()) / len(y)
    error = 3.0 * d * math.sqrt(of_samples + _direction_variance(cost, d, compat is None))
    low, high = normal_interval(value, error)
    text = signature(
        "mind", directions=len(u), d=d, real=sizes[0], generated=sizes[1], seed=seed, compat=compat
    )
    per_sample = 3.0 * d * of_y.cpu().numpy() if len(y) == sizes[1] else None
    return Result(value, (max(0.0, low), high), None, per_sample, sizes, seed, text)


def _orthogonal(count: int, d: int, generator: torch.Generator) -> Tensor:
    """Uniform directions (count, d), the rows of random orthogonal matrices."""
    bases = []
    for _ in range(math.ceil(count / d)):
        gauss = torch.randn(d, min(count, d), generator=generator, dtype=torch.float64)
        q, r = torch.linalg.qr(gauss)
        bases.append((q * r.diagonal().sign()).T)  # the sign makes it uniform (Mezzadri 2007)
    return torch.cat(bases)


def _direction_variance(cost: Tensor, d: int, orthogonal: bool) -> float:
    """Of the mean cost, over the choice of directions."""
    if d == 1:
        return 0.0
    if orthogonal and len(cost) >= _BASES * d:
        means = cost.view(-1, d).mean(1)
        return float(means.var()) / len(means)
    return float(cost.var()) / len(cost)


@dataclass(frozen=True)
class _Steps:
    """Merged steps of two quantile functions. a, b: which sample of each is there; width: of the step."""

    a: Tensor
    b: Tensor
    width: Tensor


def _steps(n: int, m: int, device: torch.device) -> _Steps:
    # Steps end at i/n and j/m; times n·m they are integers.
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]])
    width = (ends - starts).double() / (n * m)
    return _Steps((starts // m).to(device), (starts // n).to(device), width.to(device))


def _transport(x: Tensor, y: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """W₂² along each direction, and each sample's potential averaged over them: (directions,), (n,), (m,)."""
    steps = _steps(len(x), len(y), x.device)
    cost = torch.empty(len(u), dtype=torch.float64, device=x.device)
    of_x, of_y = (torch.zeros(len(v), dtype=torch.float64, device=v.device) for v in (x, y))
    chunk = max(1, _VALUES // (len(x) + len(y)))
    for at in range(0, len(u), chunk):
        part = u[at : at + chunk]
        a, order_a = (part @ x.T).sort(dim=1)
        b, order_b = (part @ y.T).sort(dim=1)
        at_a, at_b = a[:, steps.a], b[:, steps.b]
        cost[at : at + chunk] = ((at_a - at_b).square_() * steps.width).sum(1)
        of_x += torch.zeros_like(a).scatter_(1, order_a, _potential(a, b)).sum(0)
        of_y += torch.zeros_like(b).scatter_(1, order_b, _potential(b, a)).sum(0)
    return cost, of_x / len(u), of_y / len(u)


def _potential(a: Tensor, b: Tensor) -> Tensor:
    """The dual potential of each a, centred, (directions, n): ∂W₂²/∂weight.

    a, b: sorted, (directions, n), (directions, m)
    φᵢ + ψⱼ = (aᵢ − bⱼ)² wherever mass goes from i to j. Neighbours in a share the j at their border, so that
    φᵢ₊₁ − φᵢ = (aᵢ₊₁ − bⱼ)² − (aᵢ − bⱼ)². Where a border of b falls on theirs the middle of both is taken.
    """
    n, m = a.shape[1], b.shape[1]
    border = torch.arange(1, n, device=a.device) * m  # in units of 1/nm
    left, right = b[:, (border - 1) // n], b[:, border // n]
    rise = (a[:, 1:] + a[:, :-1] - left - right) * (a[:, 1:] - a[:, :-1])
    phi = torch.cat([torch.zeros_like(a[:, :1]), rise.cumsum(1)], 1)
    return phi - phi.mean(1, keepdim=True)
