"""Noise schedules and timesteps of variance-preserving diffusion, as lists of Python floats, so that no array
library's scalars promote the solvers.

x_t = α_t x₀ + σ_t ε with α_t² + σ_t² = 1 and ᾱ_t = α_t² = ∏ (1 − β).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

from niwaki_runtime.errors import CallError, nearest

__all__ = ["RANGED", "RATIOS", "SCHEDULES", "SPACINGS", "alpha_bars", "timesteps"]


def _linear(steps: int, first: float = 1e-4, last: float = 0.02) -> list[float]:
    """β from 1e-4 to 0.02 (Ho, Jain & Abbeel 2020)."""
    return [first + (last - first) * i / max(steps - 1, 1) for i in range(steps)]


def _scaled_linear(steps: int, first: float = 0.00085, last: float = 0.012) -> list[float]:
    """√β from √0.00085 to √0.012 (the code of Rombach et al. 2022)."""
    return [root**2 for root in _linear(steps, math.sqrt(first), math.sqrt(last))]


def _cosine(steps: int) -> list[float]:
    """ᾱ(u) = cos²((u + 0.008)/1.008 · π/2), β at most 0.999 (Nichol & Dhariwal 2021, Equation 17)."""

    def bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1.0 - bar((i + 1) / steps) / bar(i / steps), 0.999) for i in range(steps)]


def _sigmoid(steps: int) -> list[float]:
    """ᾱ(u) falls as a sigmoid does from −3 to 3 (Jabri, Fleet & Chen 2022, with τ = 1), β at most
    0.999."""

    def bar(u: float) -> float:
        low, high, at = (1.0 / (1.0 + math.exp(-v)) for v in (-3.0, 3.0, 6.0 * u - 3.0))
        return (high - at) / (high - low)

    return [min(1.0 - bar((i + 1) / steps) / bar(i / steps), 0.999) for i in range(steps)]


SCHEDULES: dict[str, Callable[..., list[float]]] = {
    "cosine": _cosine,
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "sigmoid": _sigmoid,
}
"""β of every timestep."""

RANGED = ("linear", "scaled_linear")
"""Those that may be told their first and last β: `linear(0.0001, 0.02)`."""


@cache
def alpha_bars(
    schedule: str,
    steps: int,
    zero_terminal_snr: bool = False,
    betas: tuple[float, ...] = (),
    terminal: float = 0.0,
) -> tuple[float, ...]:
    """ᾱ_0 … ᾱ_{steps−1}: the share of signal left after each step of the forward process.

    schedule: a name, and perhaps its range of β: `scaled_linear(0.00085, 0.012)`
    zero_terminal_snr: √ᾱ is moved and scaled so that none is left at the last step and the first stays as it
                       is (Lin, Liu, Li & Yang 2023, Algorithm 1)
    betas:    of every step, instead of the schedule's
    terminal: what stands for ᾱ = 0 at the last step, where it is to be divided by
    Raises CallError for an unknown name, for β that do not rise within (0, 1), and for `betas` that are not
    one within (0, 1) for each step.
    """
    if betas and (len(betas) != steps or not all(0.0 < beta < 1.0 for beta in betas)):
        raise CallError(
            f"betas are one number within 0 … 1 for each of the {steps} timesteps; these are {len(betas)} "
            f"numbers of {min(betas):g} … {max(betas):g}"
        )
    bars, product = [], 1.0
    for beta in betas or _betas(schedule, steps):
        product *= 1.0 - beta
        bars.append(product)
    if zero_terminal_snr:
        first, last = math.sqrt(bars[0]), math.sqrt(bars[-1])
        bars = [((math.sqrt(bar) - last) * first / (first - last)) ** 2 for bar in bars]
        bars[-1] = terminal
    return tuple(bars)


def _betas(schedule: str, steps: int) -> list[float]:
    name, told, numbers = schedule.partition("(")
    if name not in SCHEDULES:
        raise CallError(f"there is no noise schedule '{name}'; {nearest(name, SCHEDULES)}")
    if not told:
        return SCHEDULES[name](steps)
    try:
        first, last = (float(number) for number in numbers.removesuffix(")").split(","))
    except ValueError:
        raise CallError(
            f"the range of a noise schedule is written as 'linear(0.0001, 0.02)', not '{schedule}'"
        ) from None
    if name not in RANGED or not 0.0 < first <= last < 1.0:
        raise CallError(f"'{schedule}' must name a schedule that has a range, and β that rise within 0 … 1")
    return SCHEDULES[name](steps, first, last)


def _leading(train: int, steps: int) -> list[int]:
    return [i * (train // steps) for i in reversed(range(steps))]


def _linspace(train: int, steps: int) -> list[int]:
    return [round(i * (train - 1) / max(steps - 1, 1)) for i in reversed(range(steps))]


def _linspace_exact(train: int, steps: int) -> list[float]:
    return [i * (train - 1) / max(steps - 1, 1) for i in reversed(range(steps))]


def _trailing(train: int, steps: int) -> list[int]:
    return [round(train - i * train / steps) - 1 for i in range(steps)]


def _leading_open(train: int, steps: int) -> list[int]:
    return [i * (train // (steps + 1)) for i in range(steps, 0, -1)]


def _linspace_open(train: int, steps: int) -> list[int]:
    return [round(i * (train - 1) / steps) for i in range(steps, 0, -1)]


SPACINGS: dict[str, Callable[[int, int], Sequence[float]]] = {
    "leading": _leading,
    "leading_open": _leading_open,
    "linspace": _linspace,
    "linspace_exact": _linspace_exact,
    "linspace_open": _linspace_open,
    "trailing": _trailing,
}
"""The `_open` ones are those of one step more without the cleanest time, as diffusers' multistep solvers have
them; `linspace_exact` visits times between the trained ones, as its Euler solver does."""


@cache
def timesteps(spacing: str, train: int, steps: int, offset: int = 0) -> tuple[float, ...]:
    """The `steps` timesteps that are visited, from the noisiest down (Lin et al. 2024, Table 2), each
    `offset` later. They are integers, but for `linspace_exact`."""
    if spacing not in SPACINGS:
        raise CallError(f"there is no timestep spacing '{spacing}'; {nearest(spacing, SPACINGS)}")
    if not 1 <= steps <= train:
        raise CallError(f"a model trained on {train} timesteps cannot be sampled in {steps} steps")
    times = tuple(t + offset for t in SPACINGS[spacing](train, steps))
    if not 0 <= times[-1] <= times[0] < train:
        raise CallError(
            f"{steps} steps of {train} cannot start {offset} later: time {times[0]} was never trained"
        )
    return times


def _karras(low: float, high: float, steps: int) -> list[float]:
    """Even in the seventh root (Karras et al. 2022, Equation 5)."""
    first, last = high ** (1 / 7), low ** (1 / 7)
    return [(first + i / max(steps - 1, 1) * (last - first)) ** 7 for i in range(steps)]


def _exponential(low: float, high: float, steps: int) -> list[float]:
    """Even in the logarithm."""
    return [high * (low / high) ** (i / max(steps - 1, 1)) for i in range(steps)]


RATIOS: dict[str, Callable[[float, float, int], list[float]]] = {
    "exponential": _exponential,
    "karras": _karras,
}
"""(least, greatest, steps) → σ/α of the visited times, from the noisiest down."""
