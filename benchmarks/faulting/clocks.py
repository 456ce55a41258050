"""A clock that is set forward and back by hours while a call works: nothing but printed times may follow."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from faulting.kills import judged, undone, went_on
from faulting.subject import Subject

__all__ = ["changing", "impossible", "misdated"]

HOUR = 3600.0
MOST = 48
"""Hours that a clock is set by at most; an hour is the least."""
SPANS = frozenset({"seconds", "training_seconds", "took"})


def changing(rng: random.Random, seconds: float) -> Callable[[], None]:
    """What is done in a child: its wall clock is wrong by hours, and is set three times within `seconds`."""
    moments = sorted(rng.uniform(0, seconds) for _ in range(3))
    offsets = [rng.choice((-1, 1)) * rng.uniform(1, MOST) * HOUR for _ in range(4)]

    def install() -> None:
        began, true, true_ns = time.monotonic(), time.time, time.time_ns

        def wrong() -> float:
            now = time.monotonic() - began
            return offsets[sum(now >= moment for moment in moments)]

        class Misdated(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.fromtimestamp(true() + wrong(), tz)

        time.time = lambda: true() + wrong()
        time.time_ns = lambda: true_ns() + int(1e9 * wrong())
        for name, module in list(sys.modules.items()):
            if name.startswith(("niwaki", "optuna")) and vars(module).get("datetime") is datetime:
                module.datetime = Misdated  # type: ignore[attr-defined]

    return install


def misdated(subject: Subject, rng: random.Random, *, kills: bool) -> tuple[str, list[str]]:
    """One trial. kills: the call is killed as well, and made again on another wrong clock."""
    subject.reset()
    whole = subject.whole.seconds
    first = subject.call(before=changing(rng, whole), kill_after=rng.uniform(0, whole) if kills else None)
    if first.status is not None:
        return "ended on a wrong clock", [*impossible(subject.place), *judged(subject, first)]
    wrong, done = undone(subject)
    second, came, again = went_on(subject, done, before=changing(rng, whole))
    return came, [*wrong, *again, *impossible(subject.place), *judged(subject, second)]


def impossible(place: Path) -> list[str]:
    """Spans of time that a wrong clock made: below 0, or an hour and more."""
    return [
        f"{path.relative_to(place)} says that {name} is {value:.0f} s"
        for path in sorted(place.rglob("*.json"))
        for name, value in _spans(json.loads(path.read_text()))
        if not 0 <= value < HOUR
    ]


def _spans(record: Any) -> Iterator[tuple[str, float]]:
    if isinstance(record, dict):
        for name, value in record.items():
            if name in SPANS and isinstance(value, int | float):
                yield name, float(value)
            yield from _spans(value)
    elif isinstance(record, list):
        for value in record:
            yield from _spans(value)
