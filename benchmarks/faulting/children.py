"""Calls in children that are forked from this process, so that nothing has to be imported again for each.

A child can be killed after some seconds, or before its k-th change of a file: the first is as chance has it,
the second is dense where files change, and comes again with the same seed.
"""

from __future__ import annotations

import importlib
import mmap
import os
import random
import resource
import select
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Child", "Ended", "preload", "start", "threads"]

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate")
THREADED = ("onnxruntime", "openvino", "nncf", "torch._inductor", "tqdm", "__")
"""Modules that start threads or processes when they are imported, and all that take them along."""
LIMIT = 300.0
"""Seconds after which a call hangs."""


@dataclass(frozen=True)
class Ended:
    """status: of the exit, or None where the child was killed; changes: of files, until it ended"""

    status: int | None
    seconds: float
    changes: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line on stderr."""
        return (self.err.strip().splitlines() or [""])[-1]


class Child:
    """One call at work. Ends by itself, or by `wait(kill_after)`."""

    def __init__(self, pid: int, count: mmap.mmap, log: Path) -> None:
        self.pid, self.count, self.log, self.began = pid, count, log, time.monotonic()
        self.handle = os.pidfd_open(pid)

    def wait_a_moment(self, seconds: float) -> None:
        """So many seconds, or until it ends."""
        select.select([self.handle], [], [], seconds)

    def children(self) -> list[int]:
        """Processes that it has started."""
        found = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for names in found for pid in names.read_text().split()]

    def wait(self, kill_after: float | None = None) -> Ended:
        """Until it ends; killed after so many seconds, or as hanging after `LIMIT`."""
        ended, _, _ = select.select([self.handle], [], [], LIMIT if kill_after is None else kill_after)
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
        _, code = os.waitpid(self.pid, 0)
        os.close(self.handle)
        seconds = time.monotonic() - self.began
        status = None if os.WIFSIGNALED(code) else os.WEXITSTATUS(code)
        if kill_after is None and not ended:
            status = -1
        (changes,) = struct.unpack("q", self.count[:8])
        out, err = (self.log.with_suffix(end).read_text(errors="replace") for end in (".out", ".err"))
        return Ended(status, seconds, changes, out, err)


def start(
    work: Callable[[], int],
    log: Path,
    *,
    place: Path,
    environment: dict[str, str] | None = None,
    counting: bool = False,
    kill_at: int | None = None,
    largest: int | None = None,
    before: Callable[[], None] | None = None,
) -> Child:
    """Fork a child that does `work`, which returns its exit status.

    log:      where its output goes, as .out and .err
    place:    where it works, and where changes of files are counted
    counting: count them; kill_at: and kill it before that one (the first is 0)
    largest:  bytes that a file may have in it
    before:   what goes wrong in the child: called in it before the work begins
    """
    count = mmap.mmap(-1, 8)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, count, log)
    status = 70
    try:
        for number, end in ((1, ".out"), (2, ".err")):
            handle = os.open(log.with_suffix(end), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, number)
            os.close(handle)
        os.environ.update(environment or {})
        os.chdir(place)
        tempfile.tempdir = None
        _other_randomness()
        if largest is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        if counting or kill_at is not None:
            sys.addaudithook(_watcher(place, count, kill_at))
        if before is not None:
            before()
        status = work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def _other_randomness() -> None:
    """No two children begin with the same state of the generators that a process has anyway: what is not
    seeded must not look as if it were."""
    random.seed()
    for name in ("numpy", "torch"):
        module = sys.modules.get(name)
        if name == "numpy" and module is not None:
            module.random.seed(random.randrange(1 << 32))
        elif module is not None:
            module.manual_seed(random.randrange(1 << 32))


def _watcher(place: Path, count: mmap.mmap, kill_at: int | None) -> Callable[[str, tuple[Any, ...]], None]:
    inside, mine = os.fsencode(place) + b"/", os.getpid()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in CHANGES:
            return
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike) or os.getpid() != mine:
            return
        if not (os.fsencode(os.path.abspath(path)) + b"/").startswith(inside):
            return
        (n,) = struct.unpack("q", count[:8])
        if n == kill_at:
            os.kill(mine, signal.SIGKILL)
        count[:8] = struct.pack("q", n + 1)

    return watch


def preload(names: list[str]) -> None:
    """Import what the children would, each for itself; what starts threads when it is imported is left."""
    for name in names:
        if name.startswith(THREADED):
            continue
        try:
            importlib.import_module(name)
        except Exception:  # modules that others make up, or that want to be imported by others
            continue


def threads() -> int:
    """Of this process; a fork takes only one along. jemalloc's own knows of forks."""
    names = [Path(f"/proc/self/task/{thread}/comm") for thread in os.listdir("/proc/self/task")]
    return sum(not name.read_text().startswith("jemalloc") for name in names)
