"""The variance-exploding path of EDM and its preconditioning (Karras, Aittala, Aila & Laine 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from niwaki_runtime.errors import CallError
from niwaki_runtime.process.base import Process, register
from niwaki_runtime.process.conversions import Conversion

__all__ = ["Karras", "c_in", "c_noise", "c_out", "c_skip", "edm_weight"]

Array = Any


def c_skip(s: Any, data: float) -> Any:
    """σ_data² / (σ² + σ_data²): how much of x is kept (Equation 131 and Table 1)."""
    return data**2 / (s**2 + data**2)


def c_out(s: Any, data: float) -> Any:
    """σ σ_data / √(σ² + σ_data²): scale of the network's output (Equation 138 and Table 1)."""
    return s * data / (s**2 + data**2) ** 0.5


def c_in(s: Any, data: float) -> Any:
    """1 / √(σ² + σ_data²): makes the network's input of unit variance (Equation 117 and Table 1)."""
    return 1.0 / (s**2 + data**2) ** 0.5


def c_noise(s: Any, xp: Any = math) -> Any:
    """ln(σ) / 4: what the network is told of the noise (Table 1)."""
    return 0.25 * xp.log(s)


def edm_weight(s: Any, data: float) -> Any:
    """λ(σ) = (σ² + σ_data²) / (σ σ_data)² = 1 / c_out², weight of ‖D − x₀‖² (Equation 144 and Table 1)."""
    return (s**2 + data**2) / (s * data) ** 2


def edm_target(x0: Array, eps: Array, a: Any, s: Any, data: float) -> Array:
    """(x₀ − c_skip x) / c_out: what F is trained to say (Equation 8)."""
    return (x0 - c_skip(s, data) * (x0 + s * eps)) / c_out(s, data)


def edm_to_x0_eps(x: Array, out: Array, a: Any, s: Any, data: float) -> tuple[Array, Array]:
    """x₀ = D = c_skip x + c_out F (Equation 7), and ε = (x − D) / σ = dx/dσ (Algorithm 1, line 4)."""
    x0 = c_skip(s, data) * x + c_out(s, data) * out
    return x0, (x - x0) / s


@register
@dataclass(frozen=True)
class Karras(Process):
    """x = x₀ + σ ε; t is σ. The network sees c_in x and c_noise, and says F, ε or x₀.

    sigma_min, sigma_max: least and greatest σ that are visited
    rho:        where the visited σ lie: they are even in σ^(1/ρ) (Equation 5)
    spacing:    `karras`, which visits sigma_min last; `trailing`, which leaves it out, so that the times of N
                steps are every other one of 2N
    sigma_data: standard deviation of the data's values
    mean, std:  of ln σ in training (P_mean, P_std)
    """

    kind: ClassVar[str] = "karras"
    predictions: ClassVar[tuple[str, ...]] = ("edm", "epsilon", "x0")
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    spacing: Literal["karras", "trailing"] = "karras"
    sigma_data: float = 0.5
    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_min < self.sigma_max:
            raise CallError(f"sigma_min {self.sigma_min} must lie between 0 and sigma_max {self.sigma_max}")
        if min(self.rho, self.sigma_data, self.std) <= 0.0:
            raise CallError("rho, sigma_data and std of the process 'karras' must be above 0")
        if self.spacing not in ("karras", "trailing"):
            raise CallError(f"the process 'karras' has the spacings karras, trailing, not '{self.spacing}'")

    def alpha_sigma(self, t: Any, xp: Any = math) -> tuple[Any, Any]:
        if xp is math:
            return 1.0, max(t, 0.0)
        return xp.ones_like(t), t

    def time_at(self, ratio: float) -> float:
        return ratio

    def times(self, steps: int) -> tuple[float, ...]:
        """(σ_max^(1/ρ) + i/(N−1) (σ_min^(1/ρ) − σ_max^(1/ρ)))^ρ (Equation 5)."""
        if steps < 1:
            raise CallError(f"a sampler takes at least one step, not {steps}")
        first, last = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        intervals = max(steps - 1, 1) if self.spacing == "karras" else steps
        later = (max(first + i / intervals * (last - first), 0.0) ** self.rho for i in range(1, steps))
        return (self.sigma_max, *later)

    def nested(self) -> Karras:
        return replace(self, spacing="trailing")

    def network_time(self, t: Any, xp: Any = math) -> Any:
        return c_noise(t, xp)

    def network_input(self, x: Array, a: Any, s: Any) -> Array:
        return c_in(s, self.sigma_data) * x

    def training_time(self, z: Any, xp: Any = math) -> Any:
        """ln σ ~ N(P_mean, P_std²) (Table 1)."""
        return xp.exp(self.mean + self.std * z)

    def loss_weight(self, prediction: str, a: Any, s: Any) -> Any:
        """λ(σ) of ‖D − x₀‖² as the weight of the prediction's own error: 1 for F (Equation 8), λ σ² for ε."""
        weight = edm_weight(s, self.sigma_data)
        return {"edm": 1.0, "x0": weight, "epsilon": weight * s**2}[prediction]

    def start_scale(self, steps: int) -> float:
        return self.sigma_max

    def _conversions(self) -> Mapping[str, Conversion]:
        data = self.sigma_data
        return {
            **super()._conversions(),
            "edm": Conversion(partial(edm_target, data=data), partial(edm_to_x0_eps, data=data)),
        }
