"""Paths of a future whose steps each have a distribution of their own: one call of one graph, then draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.heads import Head, Quantiles, head_from_json
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, register

__all__ = ["Paths"]

_erf = np.vectorize(math.erf, otypes=[np.float64])


@register
@dataclass(frozen=True)
class Paths(Sampler):
    """x_t = F_t⁻¹(Φ(z_t)), F_t from graph(*conditions), z a stationary Gaussian path along the last axis.

    z_t = ρ z_{t−1} + √(1 − ρ²) ε_t: a Gaussian copula, which leaves the distribution of every step as the
    network says it and makes neighbouring steps agree (Salinas et al. 2019, arXiv:1910.03002, Section 2).

    shape:       of one path; its last axis is time
    graph:       name of the graph; it gives the head's parameters `(n, *shape, parameters)`
    head:        what the parameters mean; may be given as its JSON
    conditions:  names of the conditions, in the order of the graph's inputs
    correlation: ρ of neighbouring steps, in [0, 1); 0 draws every step by itself
    factor:      lower-triangular L, one row for each channel: z is multiplied by it along its first axis, and
                 channels have the correlation L Lᵀ; () leaves them independent
    temperature: factor of z; below 1 paths stay nearer to the median, 0 is the median
    """

    kind: ClassVar[str] = "paths"
    shape: tuple[int, ...] = (1,)
    graph: str = "forecaster"
    head: Head = field(default_factory=Quantiles)
    conditions: tuple[str, ...] = ()
    correlation: float = 0.0
    temperature: float = 1.0
    factor: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.head, Mapping):  # as JSON and calls write it
            object.__setattr__(self, "head", head_from_json(self.head))
        if not 0.0 <= self.correlation < 1.0:
            raise CallError(f"the correlation of steps must lie in [0, 1), not {self.correlation}")
        if self.temperature < 0.0:
            raise CallError(f"temperature must not be negative, not {self.temperature}")
        check_factor(self.factor, self.shape)

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        backend = noise.backend
        out = graphs[self.graph](*(conditions[name] for name in self.conditions))
        parameters = backend.numpy(outputs(out)[0])
        fresh = np.asarray(backend.numpy(noise.normal(self.shape)), np.float64)
        z = along(together(fresh, self.factor), self.correlation) * self.temperature
        if progress:
            progress(1, 1)
        return backend.asarray(self.head.quantile(parameters, shares(z)).astype(np.float32))

    def graphs_used(self) -> tuple[str, ...]:
        return (self.graph,)

    def to_json(self) -> dict[str, Any]:
        # `asdict` would turn the head into fields without its kind; older runtimes know no factor.
        record = {**super().to_json(), "head": self.head.to_json()}
        return record if self.factor else {k: v for k, v in record.items() if k != "factor"}


def shares(z: np.ndarray) -> np.ndarray:
    """Φ(z), within (0, 1)."""
    return np.clip(0.5 * (1.0 + _erf(z / math.sqrt(2.0))), 2.0**-33, 1.0 - 2.0**-33)


def check_factor(factor: tuple[tuple[float, ...], ...], shape: tuple[int, ...]) -> None:
    """Raises CallError for a factor that does not mix the channels of a path."""
    if factor and (len(factor) != shape[0] or any(len(row) != len(factor) for row in factor)):
        raise CallError(f"the factor of {shape[0]} channels must have as many rows and columns")


def together(fresh: np.ndarray, factor: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """Independent normals `(n, C, …)` with the channels' correlation L Lᵀ."""
    if not factor:
        return fresh
    return np.einsum("ij,nj...->ni...", np.asarray(factor, np.float64), fresh)


def along(fresh: np.ndarray, correlation: float) -> np.ndarray:
    """Independent normals `(…, T)` as a stationary path of unit variance, neighbours correlated by ρ."""
    if correlation == 0.0:
        return fresh
    z, rest = np.empty_like(fresh), math.sqrt(1.0 - correlation**2)
    z[..., 0] = fresh[..., 0]
    for t in range(1, fresh.shape[-1]):
        z[..., t] = correlation * z[..., t - 1] + rest * fresh[..., t]
    return z
