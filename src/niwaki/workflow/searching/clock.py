"""The time of a search: what is left, and what its end needs."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """seconds: that the search may take in all; reserve: that its end will need, as far as is known."""

    def __init__(self, seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._now, self.reserve = seconds, now, 0.0
        self._began = now()

    @property
    def spent(self) -> float:
        return self._now() - self._began

    @property
    def left(self) -> float:
        """Before the end has to begin; negative where it should have."""
        return self.seconds - self.spent - self.reserve

    def share(self, part: float, of: float = 1.0) -> float:
        """Seconds that a phase may take which is due `part` of the whole time, within what is left."""
        return max(0.0, min(part * self.seconds, of * self.left))
