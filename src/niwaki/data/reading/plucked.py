"""A plucked string as a delay line with losses (Karplus & Strong 1983; Jaffe & Smith 1983).

    y(t) = e(t) + ρ·(h ∗ y)(t − P),    e(t) = (1 − β)·s(t) − s(t − βP) + β·s(t − P)

y is the force on the bridge. P: steps of one period, no whole number; s: a soft step, as the plectrum lets
go; β: where it does, as a share of the string's length: of the harmonics, which begin as sin(πkβ)/k, those
with k·β whole are missing; h: a low-pass, for high harmonics fade first.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Strings", "frequency", "pluck"]

_STEPS = {"C": -9, "D": -7, "E": -5, "F": -4, "G": -2, "A": 0, "B": 2}
_ACCIDENTALS = {"#": 1, "♯": 1, "b": -1, "♭": -1}
_SMOOTHING = 0.15
"""S of the loop's low-pass (1 − S) + S·z⁻¹: it delays low frequencies by S steps."""
_TAPS = 4  # of the interpolation between steps


def frequency(note: str) -> float:
    """Hz of a note in equal temperament, A4 = 440 Hz. Raises ValueError for what is none.

    >>> frequency("A2")
    110.0
    >>> round(frequency("C#4"), 2)
    277.18
    """
    name, rest = note[:1].upper(), note[1:]
    shift = 0
    while rest and rest[0] in _ACCIDENTALS:
        shift += _ACCIDENTALS[rest[0]]
        rest = rest[1:]
    if name not in _STEPS or not rest.isdigit():
        raise ValueError(f"'{note}' is no note")
    return float(440.0 * 2.0 ** ((_STEPS[name] + shift) / 12 + int(rest) - 4))


class Strings:
    """What is plucked, one value for each string `(n,)` float64.

    hertz:  of the lowest harmonic
    pluck:  β, 0 … 1
    decay:  seconds in which the lowest harmonics fall by 60 dB
    width:  seconds in which the plectrum lets go; the shorter, the brighter
    rattle: share of noise in what the plectrum does
    """

    def __init__(
        self, hertz: np.ndarray, pluck: np.ndarray, decay: np.ndarray, width: np.ndarray, rattle: float
    ) -> None:
        self.hertz, self.pluck, self.decay, self.width, self.rattle = hertz, pluck, decay, width, rattle


def pluck(strings: Strings, length: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Sound of each string from its pluck on `(n, length)` float64, of no particular loudness."""
    n, period = len(strings.hertz), rate / strings.hertz
    force = _plectrum(strings, length, rate, rng)
    reach, taps = _loop(period)
    taps *= 10.0 ** (-3.0 * period / (rate * strings.decay))[:, None]  # 60 dB in `decay` seconds
    pad = int(reach.max()) + _TAPS + 1
    held = np.zeros((pad + length, n))  # time first: a row is one step of all strings
    each, steps = np.arange(n)[:, None], np.arange(_TAPS + 1)
    behind = reach[:, None] + steps
    flat = held.reshape(-1)
    for t in range(length):
        held[pad + t] = force[:, t] + (taps * flat[(pad + t - behind) * n + each]).sum(1)
    return held[pad:].T.copy()


def _plectrum(strings: Strings, length: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """What goes into the loop `(n, length)`: in one period as much up as down, and noise for as long."""
    period, at, share = 1.0 / strings.hertz[:, None], strings.pluck[:, None], strings.width[:, None]
    t = np.arange(length) / rate
    step = (1 - at) * _step(t / share) - _step((t - at * period) / share) + at * _step((t - period) / share)
    noise = np.where(t < period, rng.uniform(-1.0, 1.0, (len(at), length)), 0.0)
    back = np.arange(length) - np.round(at * period * rate).astype(int)  # the noise that went the other way
    other = np.where(back >= 0, np.take_along_axis(noise, np.maximum(back, 0), 1), 0.0)
    return step + strings.rattle * (noise - other)


def _step(t: np.ndarray) -> np.ndarray:
    """From 0 to 1 between t = 0 and 1, smooth at both ends."""
    t = np.clip(t, 0.0, 1.0)
    return t - np.sin(2 * np.pi * t) / (2 * np.pi)


def _loop(period: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First step back `(n,)` and weights `(n, 5)` of one way round the string: Lagrange's cubic, delayed by
    1 … 2 steps, where its gain is at most 1 (Laakso et al. 1996), and the low-pass."""
    whole = np.floor(period - _SMOOTHING).astype(int) - 1
    rest = (period - _SMOOTHING - whole)[:, None, None]
    k, m = np.arange(_TAPS)[:, None], np.arange(_TAPS)[None]
    other = np.where(k == m, 1, k - m)
    cubic = np.where(k == m, 1.0, (rest - m) / other).prod(2)
    low_pass = (1 - _SMOOTHING) * np.pad(cubic, ((0, 0), (0, 1))) + _SMOOTHING * np.pad(
        cubic, ((0, 0), (1, 0))
    )
    return whole, low_pass
