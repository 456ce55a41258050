"""What no reader of foreign files may do: start programs, reach the network, unpickle, write elsewhere."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["Escape", "Hang", "forbid", "limit_memory", "within"]

FORBIDDEN = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn",
    "socket.connect", "socket.bind", "pickle.find_class", "ctypes.dlopen",
)  # fmt: skip
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "shutil.rmtree")
ROOM = 3 << 30
"""Bytes of address space that reading one small file may take at most."""


class Escape(BaseException):
    """A reader did what it must never do. No `except Exception` takes it for a broken file."""


class Hang(BaseException):
    """A reader took longer than it was given."""


_rooms: list[Path] = []
_seen: list[str] = []


def forbid() -> None:
    """From now on, while `within` is open, what must not happen raises Escape. It cannot be undone."""
    sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _rooms:
        return
    if event in FORBIDDEN:
        _refuse(f"{event} {arguments[:1]!r:.80}")
    elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            _inside("open", arguments[0])
    elif event in CHANGES:
        names = arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]
        if all(part in (-1, None) for part in arguments[len(names) :] if isinstance(part, int | None)):
            for path in names:  # those beside an open folder are named without it, and cannot be told
                _inside(event, path)


def _inside(event: str, path: Any) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return
    given = Path(os.fsdecode(path)).resolve()
    if not any(given.is_relative_to(room) for room in _rooms) and str(given) != "/dev/null":
        _refuse(f"{event} outside: {given}")


def _refuse(what: str) -> None:
    _seen.append(what)
    raise Escape(what)


def limit_memory(room: int = ROOM) -> None:
    """Whatever allocates more than `room` beyond what is mapped now gets a MemoryError."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + room, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextmanager
def within(seconds: float, *rooms: Path) -> Iterator[None]:
    """At most so long, writing nowhere but in `rooms`. Raises Hang, and Escape also if that was swallowed."""
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    _rooms[:] = [room.resolve() for room in rooms]
    _seen.clear()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        _rooms.clear()
    if _seen:
        raise Escape(_seen[0])


def _ring(number: int, frame: FrameType | None) -> None:
    raise Hang
