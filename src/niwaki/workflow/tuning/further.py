"""Further processes that work at a study along with the one that was called."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
    paths = os.pathsep.join(path for path in (os.getcwd(), *sys.path) if path)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
    call = [sys.executable, "-m", "niwaki.workflow.tuning.worker", str(study), str(trials), str(until or 0.0)]
    begun: list[tuple[subprocess.Popen[str], Path]] = []
    with scratch_directory() as folder:
        try:
            for k in range(count):
                log = folder / f"{k}.txt"
                with log.open("w") as errors:
                    process = subprocess.Popen(
                        call, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                        stderr=errors, text=True,
                    )  # fmt: skip
                begun.append((process, log))
            yield
            if any(process.poll() is None for process, _ in begun):
                reporter.stage("waiting", "for the trials of the other processes")
            for process, log in begun:
                if process.wait():
                    lines = log.read_text(errors="replace").strip().splitlines()
                    reporter.note(
                        f"a process of the study failed: {lines[-1] if lines else 'without a word'}"
                    )
        finally:
            _end([process for process, _ in begun])


def _end(begun: list[subprocess.Popen[str]]) -> None:
    for process in begun:
        if process.poll() is None:
            process.terminate()
    for process in begun:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_WAIT)
        if process.poll() is None:
            process.kill()
            process.wait()
