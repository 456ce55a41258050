"""What a network may be asked to say of x = α x₀ + σ ε, there and back: the one home of these formulas.

x0, eps, x, out: alike, numpy arrays or torch tensors
a, s:            α and σ, floats or broadcast against x
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from niwaki_runtime.errors import CallError, nearest

__all__ = ["CONVERSIONS", "Conversion", "conversion", "to_x0_eps"]

Array = Any


@dataclass(frozen=True)
class Conversion:
    """One prediction type.

    target:    (x₀, ε, α, σ) → what training asks for
    to_x0_eps: (x, out, α, σ) → (x₀, ε), the inverse of `target` at the same x
    """

    target: Callable[[Array, Array, Any, Any], Array]
    to_x0_eps: Callable[[Array, Array, Any, Any], tuple[Array, Array]]


def epsilon_target(x0: Array, eps: Array, a: Any, s: Any) -> Array:
    """The noise itself (Ho, Jain & Abbeel 2020, Equation 14)."""
    return eps


def epsilon_to_x0_eps(x: Array, out: Array, a: Any, s: Any) -> tuple[Array, Array]:
    """x₀ = (x − σ ε) / α, which pure noise (α = 0) does not determine."""
    return (x - s * out) / a, out


def x0_target(x0: Array, eps: Array, a: Any, s: Any) -> Array:
    return x0


def x0_to_x0_eps(x: Array, out: Array, a: Any, s: Any) -> tuple[Array, Array]:
    """ε = (x − α x₀) / σ"""
    return out, (x - a * out) / s


def v_target(x0: Array, eps: Array, a: Any, s: Any) -> Array:
    """v = α ε − σ x₀ (Salimans & Ho 2022, Section 4)."""
    return a * eps - s * x0


def v_to_x0_eps(x: Array, out: Array, a: Any, s: Any) -> tuple[Array, Array]:
    """x₀ = α x − σ v and ε = σ x + α v, where α² + σ² = 1."""
    return a * x - s * out, s * x + a * out


def velocity_target(x0: Array, eps: Array, a: Any, s: Any) -> Array:
    """u = ε − x₀, which is dx/dt on the path x = (1 − t) x₀ + t ε (Lipman et al. 2023, Equation 23)."""
    return eps - x0


def velocity_to_x0_eps(x: Array, out: Array, a: Any, s: Any) -> tuple[Array, Array]:
    """x = α x₀ + σ (u + x₀), hence x₀ = (x − σ u) / (α + σ) and ε = (x + α u) / (α + σ)."""
    return (x - s * out) / (a + s), (x + a * out) / (a + s)


CONVERSIONS: dict[str, Conversion] = {
    "epsilon": Conversion(epsilon_target, epsilon_to_x0_eps),
    "x0": Conversion(x0_target, x0_to_x0_eps),
    "v": Conversion(v_target, v_to_x0_eps),
    "velocity": Conversion(velocity_target, velocity_to_x0_eps),
}
"""Those that need nothing but α and σ. A process may know more (`Process.conversion`)."""


def conversion(prediction: str, known: Any = CONVERSIONS) -> Conversion:
    """Raises CallError for a prediction type that is not among the `known`."""
    if prediction not in known:
        raise CallError(f"there is no prediction type '{prediction}'; {nearest(prediction, known)}")
    return known[prediction]


def to_x0_eps(prediction: str, x: Array, out: Array, a: Any, s: Any) -> tuple[Array, Array]:
    """What the network said, as (x₀, ε)."""
    return conversion(prediction).to_x0_eps(x, out, a, s)
