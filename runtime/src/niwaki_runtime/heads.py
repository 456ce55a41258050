"""Heads: what a network says of a number that it does not know for sure, as plain data that draws from it.

A head reads the last axis of a network's output as the parameters of one distribution per value, and gives
the value at a probability u: the inverse of the distribution's function, in float64 on the host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, ClassVar, TypeVar

import numpy as np

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.field_types import as_table, check_fields

__all__ = ["Gaussian", "Head", "Mixture", "Quantiles", "head_from_json", "register_head"]

Kind = TypeVar("Kind", bound="type[Head]")

_HEADS: dict[str, type[Head]] = {}

_normal_quantile = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])


def register_head(cls: Kind) -> Kind:
    """Make a head readable from JSON by its `kind`."""
    _HEADS[cls.kind] = cls
    return cls


@dataclass(frozen=True)
class Head(ABC):
    """One distribution per value. Subclasses are frozen dataclasses with JSON-able fields and a `kind`."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Numbers that the network gives for one value."""

    @abstractmethod
    def quantile(self, parameters: np.ndarray, u: np.ndarray) -> np.ndarray:
        """F⁻¹(u): parameters `(…, parameters)`, u `(…)` in (0, 1) → values `(…)`, rising in u."""

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@register_head
@dataclass(frozen=True)
class Quantiles(Head):
    """The values at `levels`, rising; straight lines between them, and exponential tails beyond.

    Below the first level τ₁: q(u) = q₁ + τ₁ q′ ln(u/τ₁), with the slope q′ of the first line, so that the
    density is continuous and falls exponentially; above the last one alike.
    """

    kind: ClassVar[str] = "quantiles"
    levels: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        inside = all(0.0 < level < 1.0 for level in self.levels)
        if len(self.levels) < 2 or not inside or list(self.levels) != sorted(set(self.levels)):
            raise CallError(
                f"the levels of quantiles must rise within (0, 1), at least two, not {self.levels}"
            )

    @property
    def parameters(self) -> int:
        return len(self.levels)

    def quantile(self, parameters: np.ndarray, u: np.ndarray) -> np.ndarray:
        q, tau = np.asarray(parameters, np.float64), np.asarray(self.levels)
        u = np.asarray(u, np.float64)
        right = np.clip(np.searchsorted(tau, u), 1, len(tau) - 1)
        left = right - 1
        low = np.take_along_axis(q, left[..., None], -1)[..., 0]
        high = np.take_along_axis(q, right[..., None], -1)[..., 0]
        slope = (high - low) / (tau[right] - tau[left])
        first, last = tau[0], tau[-1]
        return np.where(
            u < first,
            q[..., 0] + first * slope * np.log(np.minimum(u, first) / first),
            np.where(
                u > last,
                q[..., -1] - (1 - last) * slope * np.log(np.minimum(1 - u, 1 - last) / (1 - last)),
                low + slope * (u - tau[left]),
            ),
        )


@register_head
@dataclass(frozen=True)
class Mixture(Head):
    """`components` logistic distributions: log-weights up to a constant, then means, then log-scales.

    F(x) = Σ πₖ σ((x − μₖ)/sₖ). Its quantile lies between the least and the largest of the components', and is
    found by halving that interval.
    """

    kind: ClassVar[str] = "mixture"
    components: int = 3

    def __post_init__(self) -> None:
        if self.components < 1:
            raise CallError(f"a mixture needs at least one component, not {self.components}")

    @property
    def parameters(self) -> int:
        return 3 * self.components

    def quantile(self, parameters: np.ndarray, u: np.ndarray) -> np.ndarray:
        weights, means, scales = np.split(np.asarray(parameters, np.float64), 3, axis=-1)
        p = np.exp(weights - weights.max(-1, keepdims=True))
        p, scales = p / p.sum(-1, keepdims=True), np.exp(scales)
        u = np.asarray(u, np.float64)[..., None]
        each = means + scales * (np.log(u) - np.log1p(-u))
        low, high = each.min(-1), each.max(-1)
        for _ in range(52):  # as many bits as a float64 has
            middle = 0.5 * (low + high)
            # σ(z) = (1 + tanh(z/2))/2, which does not overflow
            below = (p * 0.5 * (1 + np.tanh(0.5 * (middle[..., None] - means) / scales))).sum(-1) < u[..., 0]
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return 0.5 * (low + high)


@register_head
@dataclass(frozen=True)
class Gaussian(Head):
    """A normal distribution: its mean, then its log-deviation. F⁻¹(u) = μ + σ Φ⁻¹(u)."""

    kind: ClassVar[str] = "gaussian"

    @property
    def parameters(self) -> int:
        return 2

    def quantile(self, parameters: np.ndarray, u: np.ndarray) -> np.ndarray:
        mean, log_deviation = np.moveaxis(np.asarray(parameters, np.float64), -1, 0)
        return mean + np.exp(log_deviation) * _normal_quantile(np.asarray(u, np.float64))


def head_from_json(record: Mapping[str, Any]) -> Head:
    """The head that `to_json` described. Raises CallError for an unknown kind or a wrong field."""
    rest = as_table(record, "a head must be a table with its 'kind'")
    kind = str(rest.pop("kind", ""))
    if kind not in _HEADS:
        raise CallError(f"this runtime knows no head '{kind}'; {nearest(kind, _HEADS)}")
    known = _HEADS[kind].__dataclass_fields__
    for name in rest:
        if name not in known:
            raise CallError(f"the head '{kind}' has no field '{name}'; {nearest(name, known)}")
    check_fields(_HEADS[kind], rest, f"the head '{kind}'")
    return _HEADS[kind](**rest)
