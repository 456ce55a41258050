"""The calendar: steps of months, which differ in seconds, and where in day, week and year times lie."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["CYCLES", "MONTH", "cycle", "months_of", "next_months"]

MONTH = 365.2425 * 86400 / 12
"""Seconds of a month on average."""


def _dates(times: np.ndarray) -> np.ndarray:
    return np.floor(np.asarray(times, np.float64)).astype("int64").astype("datetime64[s]")


def months_of(times: np.ndarray) -> tuple[np.ndarray, int] | None:
    """Number of every time's month since 1970 `(steps,)`, and months in a step; None where times do not
    follow the months: all on one day of the month at one hour, or all on the last day.

    times: seconds since 1970
    """
    when = _dates(times)
    month = when.astype("datetime64[M]")
    inside = when - month.astype("datetime64[s]")
    ending = (month + 1).astype("datetime64[s]") - when
    if len(when) < 3 or not (len(np.unique(inside)) == 1 or len(np.unique(ending)) == 1):
        return None
    number = month.astype(np.int64)
    steps = np.diff(number)
    if (steps <= 0).any():
        return None
    return number, int(np.gcd.reduce(steps))


def _share_of_day(times: np.ndarray) -> np.ndarray:
    return np.mod(times, 86400.0) / 86400.0


def _share_of_week(times: np.ndarray) -> np.ndarray:
    """From Monday on; 1970 began on a Thursday."""
    return np.mod(times / 86400.0 + 3.0, 7.0) / 7.0


def _share_of_year(times: np.ndarray) -> np.ndarray:
    when = _dates(times)
    year = when.astype("datetime64[Y]")
    begin, end = (y.astype("datetime64[s]").astype(np.float64) for y in (year, year + 1))
    return (np.asarray(times, np.float64) - begin) / (end - begin)


CYCLES = {"hour": _share_of_day, "weekday": _share_of_week, "month": _share_of_year}
"""What of a date may be told a model, with the share of its cycle that has gone by, 0 … 1."""


def cycle(name: str, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of where in its cycle every time lies `(steps,)`; times: seconds since 1970."""
    angle = 2 * math.pi * CYCLES[name](times)
    return np.sin(angle), np.cos(angle)


def next_months(time: float, months: int, steps: int) -> np.ndarray:
    """The times `months` months after `time`, and so on `(steps,)`; of a month's last day, the last days."""
    when = _dates(np.array([time]))[0]
    month = when.astype("datetime64[M]")
    inside = when - month.astype("datetime64[s]")
    last = (month + 1).astype("datetime64[s]") - when
    ending = bool(last <= np.timedelta64(86400, "s"))
    later = month + months * np.arange(1, steps + 1)
    at = (later + 1).astype("datetime64[s]") - last if ending else later.astype("datetime64[s]") + inside
    found: np.ndarray = at.astype("datetime64[s]").astype(np.int64).astype(np.float64)
    return found
