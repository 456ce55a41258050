"""Further processes of this machine: how they are started, what they last said, how they are ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

__all__ = ["end", "last_words", "start"]


def start(
    words: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[Any] = subprocess.DEVNULL,
    stdout: int | IO[Any] = subprocess.DEVNULL,
    apart: bool = False,
) -> subprocess.Popen[str]:
    """`python -m WORDS`, which imports from where this process does.

    log:         gets what it writes to stderr
    environment: variables beside those of this process
    apart:       a Ctrl-C at the terminal does not reach it: whoever has started it says when it ends
    """
    paths = os.pathsep.join(path for path in (os.getcwd(), *sys.path) if path)
    with log.open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            env={**os.environ, **(environment or {}), "PYTHONPATH": paths},
            stdin=stdin,
            stdout=stdout,
            stderr=errors,
            text=True,
            start_new_session=apart,
        )


def last_words(log: Path) -> str:
    """The last line of a log, which is one process's reason to end."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("niwaki: ") if lines else "it ended without a word"


def end(begun: Sequence[subprocess.Popen[Any]], wait: float, *, ask: bool = True) -> None:
    """Wait so many seconds for each to end, asked to by SIGTERM or by itself; then end it."""
    for process in begun:
        if ask and process.poll() is None:
            process.terminate()
    for process in begun:
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
