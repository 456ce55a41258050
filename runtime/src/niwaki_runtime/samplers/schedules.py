"""Noise schedules and timesteps as lists of Python floats, so that no array library's scalars promote the
solvers.

x_t = α_t x₀ + σ_t ε with α_t² + σ_t² = 1 (variance preserving) and ᾱ_t = α_t² = ∏ (1 − β).
"""

from __future__ import annotations

import math
from functools import cache

from niwaki_runtime.errors import CallError, nearest

__all__ = ["SCHEDULES", "SPACINGS", "alpha_bars", "timesteps"]


def _linear(steps: int) -> list[float]:
    """β from 1e-4 to 0.02 (Ho, Jain & Abbeel 2020)."""
    return [1e-4 + (0.02 - 1e-4) * i / max(steps - 1, 1) for i in range(steps)]


def _cosine(steps: int) -> list[float]:
    """ᾱ(u) = cos²((u + 0.008)/1.008 · π/2), β at most 0.999 (Nichol & Dhariwal 2021, Equation 17)."""

    def bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1.0 - bar((i + 1) / steps) / bar(i / steps), 0.999) for i in range(steps)]


SCHEDULES = {"cosine": _cosine, "linear": _linear}


@cache
def alpha_bars(schedule: str, steps: int) -> tuple[float, ...]:
    """ᾱ_0 … ᾱ_{steps−1}: the share of signal left after each step of the forward process."""
    if schedule not in SCHEDULES:
        raise CallError(f"there is no noise schedule '{schedule}'; {nearest(schedule, SCHEDULES)}")
    bars, product = [], 1.0
    for beta in SCHEDULES[schedule](steps):
        product *= 1.0 - beta
        bars.append(product)
    return tuple(bars)


def _leading(train: int, steps: int) -> list[int]:
    return [i * (train // steps) for i in reversed(range(steps))]


def _linspace(train: int, steps: int) -> list[int]:
    return [round(i * (train - 1) / max(steps - 1, 1)) for i in reversed(range(steps))]


def _trailing(train: int, steps: int) -> list[int]:
    return [round(train - i * train / steps) - 1 for i in range(steps)]


SPACINGS = {"leading": _leading, "linspace": _linspace, "trailing": _trailing}


@cache
def timesteps(spacing: str, train: int, steps: int) -> tuple[int, ...]:
    """The `steps` timesteps that are visited, from the noisiest down (Lin et al. 2024, Table 2)."""
    if spacing not in SPACINGS:
        raise CallError(f"there is no timestep spacing '{spacing}'; {nearest(spacing, SPACINGS)}")
    if not 1 <= steps <= train:
        raise CallError(f"a model trained on {train} timesteps cannot be sampled in {steps} steps")
    return tuple(SPACINGS[spacing](train, steps))
