"""About how long a loop takes in all: judged from its first units, said once within its first seconds."""

from __future__ import annotations

__all__ = ["Pace", "about_text"]

_LOOK = 1.5
"""Seconds of a loop that are looked at before anything is said."""
_SLOW = 4.0
"""Seconds of a first unit after which it is believed: a second one would be waited for too long."""
_SHORT = 10.0
"""Seconds of a loop whose end is seen sooner than read of."""


def about_text(seconds: float) -> str:
    """`a few seconds`, `about 40 s`, `about 2.5 min`, `about 25 min`, `about 1.5 h`: no more than an estimate
    knows."""
    if seconds < _SHORT:
        return "a few seconds"
    if seconds < 57.5:
        return f"about {5 * round(seconds / 5)} s"
    if seconds < 9.75 * 60:
        return f"about {round(seconds / 30) / 2:g} min"
    if seconds < 57.5 * 60:
        return f"about {5 * round(seconds / 300) if seconds > 1800 else round(seconds / 60)} min"
    return f"about {round(seconds / 1800) / 2:g} h"


class Pace:
    """Of one piece of work, which may be several loops after each other.

    A loop begins with its first update, and again where fewer units are done than before. Its first unit is
    left out where there are others: it loads, compiles and warms up.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Another piece of work."""
        self._first: tuple[int, float] | None = None
        self._warm: tuple[int, float] | None = None
        self._done = 0
        self._said = False

    def seen(self, done: int, total: int, now: float) -> float | None:
        """Seconds that the loop takes in all (what a resumed one did before does not count): once, as soon as
        they can be told; None before and after that, and for a short loop.

        now: seconds of a clock that never goes back
        """
        if self._first is None or done < self._done:
            self.begin()
            self._first = (done, now)
        self._done = done
        at, began = self._first
        if self._said or done == at:
            return None
        if self._warm is None:
            self._warm = (done, now)
            if now - began < _SLOW:
                return None
            at, since = at, began
        else:
            at, since = self._warm
        if done == at or now - began < _LOOK:
            return None
        self._said = True
        whole = now - began + (total - done) * (now - since) / (done - at)
        return whole if whole >= _SHORT and done < total else None
