"""One process at a time works in a run directory.

The lock is the operating system's (`flock`): it dies with its process, however that ends, so a lock left by
a killed process never stands in the way, nor does a new process that was given the same number.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from niwaki.core.contract import NiwakiError

try:
    import fcntl
except ImportError:  # not a POSIX system: work without the lock
    fcntl = None  # type: ignore[assignment]

__all__ = ["InUse", "is_locked", "locked", "waiting_lock"]


class InUse(NiwakiError):
    """Another process works there."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process. Raises InUse where another process does."""
    path = directory / ".lock"
    try:
        file = open(path, "a+")  # noqa: SIM115  (closed below; a `with` would hide the two ways out)
    except OSError as error:
        raise NiwakiError(f"{directory} cannot be written to: {error.strerror or error}") from None
    try:
        _take(file.fileno(), path)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
    finally:
        file.close()


@contextmanager
def waiting_lock(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process, as soon as no other one does."""
    directory.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            lock = locked(directory)
            lock.__enter__()
            break
        except InUse:
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def is_locked(directory: Path) -> bool:
    """Whether some process works there now. Where locks are not known, nobody seems to."""
    if fcntl is None:
        return False
    try:
        with open(directory / ".lock", "rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def _take(handle: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = path.read_text().strip() or "unknown"
        raise InUse(
            f"{path.parent} is in use by another niwaki (process {holder}); wait for it, or choose another"
        ) from None
    except OSError:  # a file system without locks (some network mounts): work without
        return
