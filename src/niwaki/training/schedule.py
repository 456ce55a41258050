"""Numbers that follow from the step alone: the learning rate, the averaging decay, the seeds."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from niwaki.training.schedules import Schedule, build_schedule, followed

__all__ = ["ema_decay", "lr_factor", "seed_of"]

_MASK = (1 << 64) - 1


def lr_factor(
    step: int,
    steps: int,
    warmup: int,
    schedule: str | Mapping[str, Any] | Schedule,
    seen: Sequence[float] = (),
) -> float:
    """Share of the peak learning rate at `step` (0-based) of a stage of `steps`: linear warm-up
    (step + 1) / warmup, then the schedule over the rest of the stage.

    schedule: as in a recipe, or what `build_schedule` made of it
    seen:     what validations of the stage have measured so far, for a schedule that goes by it
    """
    if step < warmup:
        return (step + 1) / warmup
    function = schedule if callable(schedule) else build_schedule(schedule)
    place = step - warmup, max(steps - warmup, 1)
    return function(*place) if followed(function) is None else function(*place, seen)


def ema_decay(decay: float, updates: int) -> float:
    """min(decay, (1 + n) / (10 + n)) after `n` updates: a short training is not an average over its random
    start."""
    return min(decay, (1 + updates) / (10 + updates))


def seed_of(*parts: int | str) -> int:
    """A 64-bit seed from any number of counters and names: equal parts, equal seed, on every machine.

    Each part is mixed by the finalizer of SplitMix64 (Steele, Lea & Flood 2014, Fast splittable
    pseudorandom number generators).
    """
    z = 0
    for part in parts:
        value = zlib.crc32(part.encode()) if isinstance(part, str) else part
        z = (z ^ (value & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        z ^= z >> 31
    return z
