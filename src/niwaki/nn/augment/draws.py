"""What random views draw, all from one generator and on its device."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from niwaki.core.contract import DataSpec

__all__ = [
    "between",
    "integers",
    "level",
    "noisy",
    "normal",
    "replaced",
    "shifted",
    "spread",
    "stretch",
    "uniform",
]


def uniform(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device)


def normal(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=rng, device=rng.device)


def integers(low: int, high: int, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.randint(low, high, shape, generator=rng, device=rng.device)


def between(low: float, high: float, shape: int | tuple[int, ...], rng: torch.Generator) -> Tensor:
    shape = (shape,) if isinstance(shape, int) else shape
    return low + (high - low) * uniform(shape, rng)


def level(most: float, x: Tensor, rng: torch.Generator) -> Tensor:
    """A strength of its own for every sample, 0 … most."""
    return between(0.0, most, (len(x), *[1] * (x.dim() - 1)), rng)


def noisy(x: Tensor, spec: DataSpec, most: float, rng: torch.Generator) -> Tensor:
    """Normal noise of a share of `spread`."""
    return x + level(most, x, rng) * _spreads(x, spec) * normal(x.shape, rng) if most else x


def spread(x: Tensor, spec: DataSpec) -> float:
    """How far values lie apart: the range of the data, or four deviations of this batch where it has no
    bounds."""
    width = spec.high - spec.low
    return width if math.isfinite(width) else 4.0 * float(x.std())


def _spreads(x: Tensor, spec: DataSpec) -> float | Tensor:
    """The same of (n, C, …) for each channel: without bounds they may be of different units."""
    if math.isfinite(spec.high - spec.low):
        return spread(x, spec)
    return 4.0 * x.std([0, *range(2, x.dim())], keepdim=True)


def stretch(side: int, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Whether each position lies in a stretch of that share of the side, anywhere `(n, side)`."""
    length = max(1, round(share * side))
    start = integers(0, side - length + 1, (n, 1), rng)
    at = torch.arange(side, device=rng.device)
    return (at >= start) & (at < start + length)


def replaced(x: Tensor, where: Callable[[], Tensor], rng: torch.Generator) -> Tensor:
    """Values at `where()` taken from the same place of other samples of the batch (Bahri et al., "SCARF",
    ICLR 2022)."""
    n = len(x)
    if n < 2:
        return x
    others = torch.arange(n, device=x.device).view(-1, *[1] * (x.dim() - 1))
    other = (integers(1, n, x.shape, rng) + others) % n
    return torch.where(where(), x.gather(0, other), x)


def shifted(x: Tensor, axis: int, most: int, rng: torch.Generator) -> Tensor:
    """Every sample moved by its own −most … most places along an axis, the edge repeated."""
    if not most:
        return x
    length, shape = x.shape[axis], [1] * x.dim()
    source = torch.arange(length, device=x.device) + integers(-most, most + 1, (len(x), 1), rng)
    shape[0], shape[axis] = len(x), length
    return x.gather(axis, source.clamp(0, length - 1).view(shape).expand(x.shape))
