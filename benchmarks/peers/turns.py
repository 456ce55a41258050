"""Two trainings in turns, in one process: whatever the machine does meanwhile meets both alike."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Contender", "TimeIsUp", "Turn", "in_turns"]


class TimeIsUp(Exception):
    """Ends the loop of a library that knows no other end."""


class Turn:
    """What one training is told about its time: seconds of its own thread's processor time.

    spent: seconds in training so far; what is `untimed` and what waits for the other does not count
    blocks: samples and seconds of each turn
    """

    def __init__(self, seconds: float, block: float) -> None:
        self.seconds, self.block = seconds, block
        self.spent, self.blocks = 0.0, list[tuple[int, float]]()
        self._began, self._samples, self._within = 0.0, 0, 0.0
        self._go, self._idle = threading.Event(), threading.Event()
        self.done, self.error = False, list[BaseException]()

    # ── for the training

    @property
    def over(self) -> bool:
        return self.spent >= self.seconds

    def tick(self, samples: int) -> None:
        """So many samples were trained on since the last tick; waits where it is the other's turn."""
        self._count()
        self._samples += samples
        if self._within >= self.block:
            self._close()
            self._idle.set()
            self._wait()

    @contextmanager
    def untimed(self) -> Iterator[None]:
        """Inside, the clock stands still: validation."""
        self._count()
        try:
            yield
        finally:
            self._began = time.thread_time()

    # ── for who leads them

    def start(self, contender: Contender) -> None:
        def body() -> None:
            self._wait()
            try:
                contender.train(self)
            except TimeIsUp:
                pass
            except BaseException as error:  # told in the thread that leads
                self.error.append(error)
            finally:
                self._count()
                if self._samples:
                    self._close()
                self.done = True
                self._idle.set()

        threading.Thread(target=body, daemon=True).start()

    def take(self) -> None:
        """Let it train for one turn."""
        self._idle.clear()
        self._go.set()
        self._idle.wait()
        if self.error:
            raise self.error[0]

    def rate(self) -> float:
        """Samples per second: the median over turns, the first of which warms up."""
        rates = [samples / seconds for samples, seconds in self.blocks if seconds > 0]
        return statistics.median(rates[1:] or rates)

    def _wait(self) -> None:
        self._go.wait()
        self._go.clear()
        self._began = time.thread_time()

    def _count(self) -> None:
        now = time.thread_time()
        self.spent += now - self._began
        self._within += now - self._began
        self._began = now

    def _close(self) -> None:
        self.blocks.append((self._samples, self._within))
        self._samples, self._within = 0, 0.0


class Contender(Protocol):
    """A model with its own way of training.

    parameters: that are trained
    """

    parameters: int

    def train(self, turn: Turn) -> None:
        """Train until `turn` is over, with a tick after every step or so."""

    def score(self) -> dict[str, float]:
        """What it is worth on the test split."""


def in_turns(contenders: dict[str, Contender], seconds: float, block: float) -> dict[str, Turn]:
    """Train all of them for `seconds` of processor time each, turn by turn of `block` seconds; the order
    rotates."""
    turns = {name: Turn(seconds, block) for name in contenders}
    for name, turn in turns.items():
        turn.start(contenders[name])
    names, first = list(turns), 0
    while not all(turn.done for turn in turns.values()):
        for name in names[first:] + names[:first]:
            if not turns[name].done:
                turns[name].take()
        first = (first + 1) % len(names)
    return turns
