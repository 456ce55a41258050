"""How a coupling moves a value, given what the others say: monotone functions with an inverse."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["TRANSFORMS", "Additive", "Affine", "Spline", "Transform", "transform_of"]

_BOUND = 2.0


class Transform(ABC):
    """
    parameters: numbers that the conditioner says of each value
    """

    parameters: int

    def arrange(self, said: Tensor) -> Tensor:
        """`(n, parameters, k)` → what `forward` and `inverse` take."""
        return said.flatten(1)

    @abstractmethod
    def forward(self, x: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """x `(n, k)`, what is said `(n, parameters·k)` → z `(n, k)` and log dz/dx `(n, k)`."""

    @abstractmethod
    def inverse(self, z: Tensor, said: Tensor) -> Tensor:
        """The x of which `forward` makes z."""


class Affine(Transform):
    """z = x e^s + t (Dinh et al. 2017, Equation 4); s lies between ±2, so that no layer can blow a value
    up."""

    parameters = 2

    @staticmethod
    def _parts(said: Tensor) -> tuple[Tensor, Tensor]:
        s, t = said.chunk(2, dim=1)
        return _BOUND * torch.tanh(s / _BOUND), t

    def forward(self, x: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self._parts(said)
        return x * torch.exp(s) + t, s

    def inverse(self, z: Tensor, said: Tensor) -> Tensor:
        s, t = self._parts(said)
        return (z - t) * torch.exp(-s)


class Additive(Transform):
    """z = x + t, which keeps volumes (NICE, Dinh et al. 2015)."""

    parameters = 1

    def forward(self, x: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        return x + said, torch.zeros_like(x)

    def inverse(self, z: Tensor, said: Tensor) -> Tensor:
        return z - said


class Spline(Transform):
    """A monotone rational-quadratic spline between ±bound, the identity beyond (Durkan et al. 2019; the
    segments are those of Gregory & Delbourgo 1982).

    bins:     segments
    bound:    where the identity begins
    smallest: share of the interval that every segment has at least, in both directions, and the smallest
              slope at a knot: no segment can become so steep that float32 loses its inverse
    """

    def __init__(self, bins: int = 8, bound: float = 4.0, smallest: float = 1e-3) -> None:
        self.bins, self.bound, self.smallest = bins, bound, smallest
        self.parameters = 3 * bins - 1
        # softplus of it is 1 − smallest: where nothing is said, all slopes are 1 and the spline the identity
        self._level = math.log(math.expm1(1 - smallest))

    def arrange(self, said: Tensor) -> Tensor:
        return said.transpose(1, 2).flatten(1)

    def forward(self, x: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        x = x.unsqueeze(-1)
        left, width, low, height, d0, d1 = self._segment(x, said, of=0)
        inside = x.abs() < self.bound
        t = ((x - left) / width).clamp(0.0, 1.0)
        slope = height / width
        rest = 1 - t
        between = t * rest
        below = slope + (d0 + d1 - 2 * slope) * between
        z = low + height * (slope * t.square() + d0 * between) / below
        # Durkan et al. 2019, Equation 22
        rise = slope.square() * (d1 * t.square() + 2 * slope * between + d0 * rest.square())
        logdet = torch.log(rise / below.square())
        z, logdet = torch.where(inside, z, x), torch.where(inside, logdet, torch.zeros_like(x))
        return z.squeeze(-1), logdet.squeeze(-1)

    def inverse(self, z: Tensor, said: Tensor) -> Tensor:
        z = z.unsqueeze(-1)
        left, width, low, height, d0, d1 = self._segment(z, said, of=1)
        inside = z.abs() < self.bound
        y = (z - low).clamp(min=0.0).minimum(height)
        slope = height / width
        part = y * (d0 + d1 - 2 * slope)
        a = height * (slope - d0) + part
        b = height * d0 - part
        c = slope * y  # of a t² + b t − c = 0
        # The root without cancellation (Durkan et al. 2019, Equation 29); rounding may make the discriminant
        # negative where both ends meet, and then it is 0.
        root = (b.square() + 4 * a * c).clamp(min=0.0).sqrt()
        t = (2 * c / (b + root)).clamp(0.0, 1.0)
        return torch.where(inside, left + t * width, z).squeeze(-1)

    def _segment(self, x: Tensor, said: Tensor, *, of: int) -> tuple[Tensor, ...]:
        """Of the segment that holds each value of x `(n, k, 1)`, in x (`of` 0) or in z (1): where it begins
        and its length in x, the same in z, the slopes at both of its ends; `(n, k, 1)` each.

        Widths and heights, and all six tables, are computed together: exporting takes a time for every
        operator.
        """
        k = self.bins
        said = said.unflatten(1, (x.shape[1], self.parameters))
        share = said[..., : 2 * k].unflatten(-1, (2, k)).softmax(-1)
        whole = 2 * self.bound
        lengths = self.smallest * whole + (1 - self.smallest * k) * whole * share  # (n, k, 2, bins)
        starts = lengths.cumsum(-1) - lengths - self.bound
        inner = self.smallest + F.softplus(said[..., 2 * k :] + self._level)
        slopes = F.pad(inner, (1, 1), value=1.0).unsqueeze(-2)
        # Knots passed. Counted as floats: a sum of integers, taken further, is wrong in openvino 2026.4.
        at = (x >= starts[..., of, 1:]).to(x.dtype).sum(-1, keepdim=True).long()
        tables = torch.cat([starts, lengths, slopes[..., :-1], slopes[..., 1:]], dim=-2)
        found = tables.gather(-1, at.unsqueeze(-2).expand(-1, -1, 6, -1)).squeeze(-1)
        left, low, width, height, d0, d1 = found.split(1, dim=-1)
        return left, width, low, height, d0, d1


TRANSFORMS: dict[str, type[Transform]] = {"affine": Affine, "additive": Additive, "spline": Spline}


def transform_of(name: str, *, bins: int = 8) -> Transform:
    """By its name; `bins` is of splines."""
    return Spline(bins) if name == "spline" else TRANSFORMS[name]()
