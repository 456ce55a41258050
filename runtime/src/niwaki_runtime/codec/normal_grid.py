"""Normal distributions on the integers, as integer tables: a symbol in two digits.

The upper digit counts units of 2^f, of which a deviation has 8 to 16, under a table of densities; the lower
one is even, which so short a unit very nearly is.
"""

from __future__ import annotations

import numpy as np

from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.stack import Stack
from niwaki_runtime.codec.tables import FRACTION, LOG2_E, frequencies, power_of_two

__all__ = ["LARGEST_UNIT", "LOG_GRID", "MEAN_GRID", "log_weights", "pop", "push", "unit_of"]

MEAN_GRID = 4
"""Bits behind the point of a mean."""
LOG_GRID = 8
"""Bits behind the point of log₂ σ."""
_HALF = 128
"""Units to either side of the mean, 8 deviations or more."""
_UNITS = 3
"""log₂ of the least deviation in units, where a unit is more than one."""
_RAW = 16
"""Bits of the digits of a number that lies beyond the table."""
_MOST = 1 << 31
LARGEST_UNIT = 20
"""Bits of the lower digit."""


def log_weights(apart: np.ndarray, log_deviation: np.ndarray) -> np.ndarray:
    """log₂ of the normal density up to a constant, 12 bits behind the point.

    apart:         distances to the mean, int64, 12 bits behind the point, up to 2⁸
    log_deviation: log₂ σ, int64, 8 bits behind the point, at least 0, up to 4
    """
    precision = power_of_two(log_deviation << (FRACTION - LOG_GRID + 1)) >> 14  # 2¹⁶ / σ²
    square = (apart * apart >> FRACTION) * precision >> 16
    return -(square * LOG2_E >> 21)


def push(stack: Stack, z: np.ndarray, mean: np.ndarray, log_deviation: np.ndarray, *, sure: bool) -> None:
    """Integers `(n,)` under N(mean, σ²); undoes `pop`.

    mean, log_deviation: int64 `(n,)`, 4 and 8 bits behind the point; of σ < 1 it is taken as 1
    sure:                whether these were popped: others may lie as far away as they like
    Raises CodecError where they are sure and cannot have been popped.
    """
    base, unit, table = _table(mean, log_deviation)
    q = (z >> unit) - base
    if not sure:
        far = (q < 1) | (q > 2 * _HALF - 2)
        raw = np.clip(z[far], -_MOST, _MOST - 1) + _MOST
        for part in (raw & ((1 << _RAW) - 1), raw >> _RAW):
            stack.push_uniform(part, _RAW)
        q = np.where(far, 0, q)
        stack.push_sized((z & ((1 << unit) - 1))[~far], (1 << unit)[~far])
    else:
        if (q < 0).any() or (q >= 2 * _HALF).any():
            raise CodecError("the coded block does not come out even")
        stack.push_sized(z & ((1 << unit) - 1), 1 << unit)
    stack.push(q, table)


def pop(stack: Stack, mean: np.ndarray, log_deviation: np.ndarray, *, sure: bool) -> np.ndarray:
    """Integers `(n,)` under N(mean, σ²), int64; undoes `push`."""
    base, unit, table = _table(mean, log_deviation)
    q = stack.pop(table)
    far = np.zeros(len(q), bool) if sure else (q < 1) | (q > 2 * _HALF - 2)
    z = (q + base) << unit
    z[~far] += stack.pop_sized((1 << unit)[~far])
    if far.any():
        n = int(far.sum())
        high = stack.pop_uniform(n, _RAW)
        z[far] = (high << _RAW) + stack.pop_uniform(n, _RAW) - _MOST
    return z


def unit_of(log_deviation: np.ndarray) -> np.ndarray:
    """Bits of the lower digit under such a deviation."""
    return np.clip((log_deviation >> LOG_GRID) - _UNITS, 0, LARGEST_UNIT)


def _table(mean: np.ndarray, log_deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each: the unit of the first symbol, log₂ of a unit, and the frequencies `(n, 256)`."""
    log_deviation = np.clip(log_deviation, 0, ((LARGEST_UNIT + _UNITS + 1) << LOG_GRID) - 1)
    unit = unit_of(log_deviation)
    base = (mean >> (MEAN_GRID + unit)) - _HALF
    # From the mean to the middle of each unit, whose numbers are 0 … 2^f − 1: in halves of the mean's grid.
    first = (base << (MEAN_GRID + 1 + unit)) + (((1 << unit) - 1) << MEAN_GRID) - (mean << 1)
    apart = first[:, None] + (np.arange(2 * _HALF) << (MEAN_GRID + 1 + unit)[:, None])
    in_units = (apart << (FRACTION - MEAN_GRID - 1)) >> unit[:, None]
    weights = log_weights(in_units, (log_deviation - (unit << LOG_GRID))[:, None])
    return base, unit, frequencies(weights)
