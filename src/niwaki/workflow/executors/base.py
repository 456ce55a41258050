"""What an executor is: `submit` gives a future, as those of `concurrent.futures` do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from niwaki.core.contract import NiwakiError

__all__ = ["Call", "Executor", "Pending", "WorkerLost", "results"]

Call = Callable[[str], str]
"""A function of a module, of one text (JSON): what other processes can be asked for without a pickle of
ours. Errors that are to be told are part of its answer; one that it raises counts as a lost worker."""

_EVERY = 0.02, 0.5
"""Seconds between two looks at what is under way: at first, and at most."""


class WorkerLost(NiwakiError):
    """A worker has ended before it has answered."""


class Pending(Protocol):
    """A call under way."""

    def done(self) -> bool: ...

    def result(self) -> str: ...


class Executor(Protocol):
    """width: calls that are carried out side by side"""

    width: int

    def submit(self, call: Call, words: str) -> Pending: ...

    def shutdown(self) -> None:
        """End what is under way, and the workers."""


def results(
    executor: Executor, call: Call, asked: Sequence[str], on_progress: Callable[[int, int], None]
) -> list[str | WorkerLost]:
    """The answers, in the order of what was asked; nothing is under way when they are there.

    A call whose worker is lost is made again once; a second loss is its answer.
    """
    pending = {k: executor.submit(call, words) for k, words in enumerate(asked)}
    out: dict[int, str | WorkerLost] = {}
    again: set[int] = set()
    wait = _EVERY[0]
    while pending:
        ended = [k for k, one in pending.items() if one.done()]
        for k in ended:
            try:
                out[k] = pending.pop(k).result()
            except Exception as error:  # of whatever library the executor is
                if k in again:
                    out[k] = WorkerLost(f"the process that tried it was lost twice: {_why(error)}")
                    continue
                again.add(k)
                pending[k] = executor.submit(call, asked[k])
        on_progress(len(out), len(asked))
        if pending:
            wait = _EVERY[0] if ended else min(1.5 * wait, _EVERY[1])
            time.sleep(wait)
    return [out[k] for k in range(len(asked))]


def _why(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
