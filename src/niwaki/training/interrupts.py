"""Ctrl-C and SIGTERM end a training after the step under way; a second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from niwaki_runtime.errors import NiwakiError

__all__ = ["Interrupted", "Stop", "catch_signals"]


class Interrupted(NiwakiError):
    """The training was stopped from outside and has saved its state.

    step, total: how far it came
    """

    def __init__(self, step: int, total: int, directory: Path | None) -> None:
        kept = f"resume it from {directory}" if directory else "nothing was saved: it had no directory"
        super().__init__(f"training was stopped after step {step} of {total}; {kept}")
        self.step, self.total = step, total


class Stop:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def catch_signals() -> Iterator[Stop]:
    """Inside the block SIGINT and SIGTERM set `asked`. Outside the main thread, where Python allows no
    handlers, signals are left alone."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    kept: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    for number in (signal.SIGINT, signal.SIGTERM):
        kept[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
