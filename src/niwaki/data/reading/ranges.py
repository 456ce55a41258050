"""Which range float samples have: decided in one place, before anything is changed, and always said.

Floats do not tell whether 0 or −1 is black. Resizing rings, arithmetic rounds, models overshoot: a hard limit
would let one value of −1e-7 turn 0 … 1 into −1 … 1. So few values may lie a little outside of a range that
is guessed; they are clipped and counted. Where neither reading is plainly the right one nobody guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from niwaki.core.contract import CallError

__all__ = [
    "SIGNED",
    "SLACK",
    "UNIT",
    "Bounds",
    "Clipped",
    "checked_bounds",
    "clipped",
    "fits",
    "guessed",
    "read_as",
]

Bounds = tuple[float, float]

UNIT: Bounds = (0.0, 1.0)
SIGNED: Bounds = (-1.0, 1.0)
SLACK = 0.25
"""Values may overshoot a range by this share of its width: a bicubic filter rings by up to 0.15."""
FEW = 1e-3
"""Share of the values that may lie outside of a range that is guessed."""
HAIR = 0.5 / 255
"""Half a grey level, as a share of the width: nothing that lies outside by less speaks against a range."""
CLEARLY = 3.0
"""How many times further from the real values a reading has to be than another one to contradict them."""
_QUANTILES = np.linspace(0.0, 1.0, 33)


@dataclass(frozen=True)
class Clipped:
    """Values inside their range, and how many were brought there.

    values: float32 in low … high; what is not finite stays
    count:  how many lay outside; share of all; beyond: the furthest of them, in the values' unit
    """

    values: np.ndarray
    count: int
    share: float
    beyond: float

    @property
    def text(self) -> str:
        """What was clipped, in words; empty where nothing was."""
        if not self.count:
            return ""
        who = "1 value lies" if self.count == 1 else f"{self.count:,} values lie"
        return f"{who} outside, by up to {self.beyond:.3g} ({self.share:.2g} of all), and clipped"


def checked_bounds(bounds: Sequence[float], called: str) -> Bounds:
    """Two finite, rising numbers. Raises CallError for anything else."""
    if len(bounds) != 2 or not np.isfinite(bounds).all() or not bounds[0] < bounds[1]:
        raise CallError(f"{called} must rise, not {tuple(bounds)}")
    return float(bounds[0]), float(bounds[1])


def guessed(x: np.ndarray, candidates: Sequence[Bounds] = (UNIT, SIGNED)) -> Bounds | None:
    """The range that floats have, the narrower of two; None where that is not plain.

    x:          with at least one finite value
    candidates: one range, or a narrow one and a wider one with the same upper end
    The narrow one: nothing lies outside by more than half a grey level, or few values by no more than the
    slack. The wide one: more than few values lie outside the narrow one, and some of them far.
    """
    for bounds in candidates:
        outside, beyond = _outside(x, bounds)
        few = outside <= max(1, FEW * x.size)
        if outside == 0 or (few and beyond <= SLACK * _width(bounds)):
            narrow = candidates[0]
            if bounds == narrow:
                return bounds
            below = int(np.count_nonzero(x < narrow[0] - HAIR * _width(narrow)))
            far = float(_finite(x).min()) < narrow[0] - SLACK * _width(narrow)
            return bounds if far and below > max(1, FEW * x.size) else None
    return None


def fits(x: np.ndarray, bounds: Bounds) -> bool:
    """Whether everything lies inside, or outside by no more than the slack."""
    return _outside(x, bounds)[1] <= SLACK * _width(bounds)


def clipped(x: np.ndarray, bounds: Bounds) -> Clipped:
    """The values inside the range as float32. Whatever lies outside is counted before it is changed."""
    low, high = bounds
    with np.errstate(invalid="ignore"):
        out = np.isfinite(x) & ((x < low) | (x > high))
    count = int(np.count_nonzero(out))
    if not count:
        return Clipped(x.astype(np.float32), 0, 0.0, 0.0)
    values = np.where(out, np.clip(x, low, high), x).astype(np.float32)
    return Clipped(values, count, count / x.size, _outside(x, bounds)[1])


def read_as(
    x: np.ndarray, candidates: Sequence[Bounds], real: np.ndarray | None, to: Bounds, called: str, say: str
) -> Bounds:
    """Which of several ranges the values of a file have that are to be compared with real ones.

    candidates: ranges, the one of the data first
    real:       values of the data in the range `to`; None where there are none to compare with
    say:        how a user can say it, for the message
    Raises CallError where no range holds the values, where none is plainly theirs, and where the guess
    contradicts the real values, which another reading would agree with.
    """
    possible = [b for b in dict.fromkeys(candidates) if fits(x, b)]
    finite = _finite(x)
    low, high = float(finite.min()), float(finite.max())
    if not possible:
        raise CallError(
            f"{called} holds floats {low:.4g} … {high:.4g}, the data {to[0]:g} … {to[1]:g}; "
            "scale them to that range, or save uint8"
        )
    if len(possible) == 1:
        return possible[0]
    apart = {b: _apart(finite, b, real, to) for b in possible} if real is not None and real.size else {}
    best = min(apart, key=lambda b: apart[b]) if apart else None
    plain = _plain(x, possible)
    others = " or ".join(f"{b[0]:g} … {b[1]:g}" for b in sorted(possible))
    if plain is None:
        if best is None or any(CLEARLY * apart[best] > d for b, d in apart.items() if b != best):
            raise CallError(
                f"{called} holds floats {low:.4g} … {high:.4g}, which may have the range {others}; {say}"
            )
        return best
    if best is not None and apart[plain] > CLEARLY * apart[best] + 0.02:
        raise CallError(
            f"{called} holds floats {low:.4g} … {high:.4g}: read as {plain[0]:g} … {plain[1]:g} they "
            f"contradict the data, read as {best[0]:g} … {best[1]:g} they agree with them; {say}"
        )
    return plain


def _plain(x: np.ndarray, possible: Sequence[Bounds]) -> Bounds | None:
    """What the values alone say: the narrowest range that few of them undershoot. (They may overshoot it:
    models do.)"""
    by_width = sorted(possible, key=_width)
    for at, bounds in enumerate(by_width):
        below = int(np.count_nonzero(x < bounds[0] - HAIR * _width(bounds)))
        if below <= max(1, FEW * x.size):
            return bounds
        # What lies below it, but by so little that it may have rung, speaks for no wider range.
        if at + 1 < len(by_width) and float(_finite(x).min()) >= bounds[0] - SLACK * _width(bounds):
            return None
    return by_width[-1]


def _apart(x: np.ndarray, bounds: Bounds, real: np.ndarray, to: Bounds) -> float:
    """Mean distance between the quantiles of both, in shares of the range."""
    ours = np.clip((np.quantile(_some(x), _QUANTILES) - bounds[0]) / _width(bounds), 0.0, 1.0)
    theirs = (np.quantile(_some(_finite(real)), _QUANTILES) - to[0]) / _width(to)
    return float(np.abs(ours - theirs).mean())


def _some(x: np.ndarray) -> np.ndarray:
    """At most a million of the values, evenly spread."""
    flat = x.reshape(-1)
    return flat[:: max(1, flat.size // 1_000_000)]


def _outside(x: np.ndarray, bounds: Bounds) -> tuple[int, float]:
    """How many values lie outside by more than a hair, and how far the furthest lies outside."""
    finite, hair = _finite(x), HAIR * _width(bounds)
    low, high = bounds[0] - hair, bounds[1] + hair
    count = int(np.count_nonzero((finite < low) | (finite > high)))
    return count, max(0.0, bounds[0] - float(finite.min()), float(finite.max()) - bounds[1])


def _finite(x: np.ndarray) -> np.ndarray:
    mask = np.isfinite(x)
    return x if mask.all() else x[mask]


def _width(bounds: Bounds) -> float:
    return bounds[1] - bounds[0]
