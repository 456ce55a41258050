"""The forward process and what a network may be asked to predict of it.

x_t = α_t x₀ + σ_t ε, α² + σ² = 1; the tables are those that the device's samplers use
(`niwaki_runtime.samplers`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from niwaki_runtime.samplers.schedules import alpha_bars

__all__ = ["TARGETS", "drop_labels", "levels", "noised"]


def levels(schedule: str, steps: int) -> tuple[Tensor, Tensor]:
    """α and σ of every timestep, each `(steps,)` float32, computed in float64."""
    bars = torch.tensor(alpha_bars(schedule, steps), dtype=torch.float64)
    return bars.sqrt().float(), (1.0 - bars).sqrt().float()


def noised(x0: Tensor, eps: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """x_t = α x₀ + σ ε; a and s are `(n,)` or broadcast against x₀."""
    a, s = _columns(a, x0), _columns(s, x0)
    return a * x0 + s * eps


def _columns(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *(1,) * (like.ndim - 1)) if value.ndim == 1 else value


def _v(x0: Tensor, eps: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """v = α ε − σ x₀ (Salimans & Ho 2022, Section 4)."""
    return _columns(a, x0) * eps - _columns(s, x0) * x0


TARGETS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "v": _v,
    "epsilon": lambda x0, eps, a, s: eps,
}
"""What the network is trained to say, of (x₀, ε, α, σ)."""


def drop_labels(y: Tensor, null: int, share: float, rng: torch.Generator) -> Tensor:
    """`y` with each label replaced by `null` with probability `share`: one coin per sample, not per batch
    (Ho & Salimans 2022, Algorithm 1)."""
    coins = torch.rand(y.shape, generator=rng, device=y.device)
    return torch.where(coins < share, torch.full_like(y, null), y)
