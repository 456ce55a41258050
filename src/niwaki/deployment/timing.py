"""Latencies: several ways of doing the same, in one process, in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from niwaki.core.contract import CallError

__all__ = ["SPREAD", "Latency", "interleave", "is_uncertain", "seconds_of_rounds"]

_PAUSE = 0.02  # seconds; a library's threads spin for a while after a call and would slow the next one down
_BUDGET = 60.0  # seconds of timed rounds, after which the median of long calls is known well enough
_FEWEST = 5  # rounds that a median and quartiles need all the same
_LONG = 0.2  # seconds; a colder cache and a few milliseconds of others' spinning are nothing in such a call
SPREAD = 2.0
"""Quartiles further apart than by this factor: the time of a call is not known well enough to be quoted."""


def is_uncertain(low_ms: float, high_ms: float) -> bool:
    """Whether the middle half of the runs spans more than a factor of two. Work of others on the same cores
    does that; a factor between two such times would be a headline made of noise."""
    return high_ms > SPREAD * low_ms


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call: median and quartiles over `runs` timed calls."""

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int

    @property
    def uncertain(self) -> bool:
        return is_uncertain(self.low_ms, self.high_ms)

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        low, median, high = (float(v) * 1e3 for v in np.percentile(seconds, (25, 50, 75)))
        return cls(median, low, high, len(seconds))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def interleave(
    calls: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 30,
    warm: int = 5,
    pause: float = _PAUSE,
    seconds: float = _BUDGET,
    fewest: int = _FEWEST,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Latency]:
    """Time each call once per round, all in turns: what the machine does meanwhile hits all of them alike.

    Every timed call follows a pause and an untimed call of its own: it finds its code and weights in the
    cache, and no other library's threads spinning on its cores. The order rotates from round to round. Calls
    that last 0.2 s and more are warmed up twice instead of `warm` times, and then go without the untimed one.
    After `seconds` no further round begins, if `fewest` are done: `Latency.runs` says how many there were.
    """
    if rounds < 1 or not calls:
        raise CallError("timing needs something to time and at least one round")
    names = list(calls)
    long = {name for name in names if _warmed_up(calls[name], warm) >= _LONG}
    taken: dict[str, list[float]] = {name: [] for name in names}
    began = time.perf_counter()
    for k in range(rounds):
        if k >= fewest and time.perf_counter() - began > seconds:
            break
        for name in names[k % len(names) :] + names[: k % len(names)]:
            call = calls[name]
            time.sleep(pause)
            if name not in long:
                call()
            taken[name].append(_duration(call))
        if progress:
            progress(k + 1, rounds)
    if progress and k + 1 < rounds:
        progress(rounds, rounds)
    return {name: Latency.of(values) for name, values in taken.items()}


def seconds_of_rounds(each: Sequence[float], *, rounds: int = 30, warm: int = 5) -> float:
    """What `interleave` takes about in all, of calls that last `each` seconds."""
    before = sum(took * (2 if took >= _LONG else warm) for took in each)
    a_round = sum(_PAUSE + took * (1 if took >= _LONG else 2) for took in each)
    within = max(_FEWEST, math.ceil(_BUDGET / a_round)) if a_round else rounds
    return before + a_round * min(rounds, within)


def _duration(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _warmed_up(call: Callable[[], Any], times: int) -> float:
    """Seconds of the last of `times` calls, or of the second where it is long: the first one compiles."""
    last = 0.0
    for k in range(times):
        last = _duration(call)
        if k >= 1 and last >= _LONG:
            break
    return last
