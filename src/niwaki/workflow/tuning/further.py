"""Further processes that work at a study along with the one that was called."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from niwaki.workflow.processes import end, last_words, start
from niwaki.workflow.reporter import Reporter
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["further_workers"]

_WAIT = 20
"""Seconds that a process may take to save its training when it is asked to end."""


@contextmanager
def further_workers(
    study: Path, count: int, trials: int, until: float | None, reporter: Reporter
) -> Iterator[None]:
    """`count` processes beside this one; at the end of the block their trials are waited for. An error in the
    block (Ctrl-C) asks them to save what they do and to end.

    The cores are shared out among all. A process that fails is told of; its trial is taken up by another.
    """
    if not count:
        yield
        return
    threads = max(1, (os.cpu_count() or 1) // (count + 1))
    call = ["niwaki.workflow.tuning.worker", str(study), str(trials), str(until or 0.0)]
    begun: list[tuple[subprocess.Popen[str], Path]] = []
    with scratch_directory() as folder:
        try:
            for k in range(count):
                log = folder / f"{k}.txt"
                begun.append((start(call, log, environment={"OMP_NUM_THREADS": str(threads)}), log))
            yield
            if any(process.poll() is None for process, _ in begun):
                reporter.stage("waiting", "for the trials of the other processes")
            for process, log in begun:
                if process.wait():
                    reporter.note(f"a process of the study failed: {last_words(log)}")
        finally:
            end([process for process, _ in begun], _WAIT)
