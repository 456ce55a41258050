"""Files and folders while they are written: whole or not there, and nothing stays of a killed process.

Whatever is being written is called `….partial` and held by a lock of the operating system (`flock`), which
dies with its process. So the next writer tells what a killed one has left, clears it away, and never touches
what another process is still writing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from niwaki_runtime.errors import NiwakiError

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing is held, and nothing is cleared away
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "clear_below",
    "is_unfinished",
    "partial_directory",
    "partial_file",
    "remove_directory",
    "scratch_directory",
]

SUFFIX = ".partial"
_SCRATCH = "niwaki-"


def is_unfinished(path: Path) -> bool:
    """Whether a file or a folder is one that is, or was, being written."""
    return path.name.endswith(SUFFIX) and path.name.startswith((".", _SCRATCH))


@contextmanager
def partial_file(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path`, open for writing: it takes the place of `path` when the block ends well, and
    vanishes when it does not. The folder must be there. Raises OSError where it cannot be written."""
    handle, temporary = _held(path.parent, f".{path.name}.", folder=False)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            if fcntl is not None:
                os.replace(temporary, path)  # while it is held
        if fcntl is None:
            os.replace(temporary, path)  # elsewhere a file has to be closed first
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def partial_directory(folder: Path, prefix: str) -> Iterator[Path]:
    """A new directory in `folder`; whatever still bears its name when the block ends is removed."""
    handle, temporary = _held(folder, prefix, folder=True)
    try:
        os.chmod(temporary, 0o755)
        yield temporary
    finally:
        _remove(temporary)
        os.close(handle)


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory among the system's temporary files, removed when the block ends. Raises NiwakiError where
    there is no place for it."""
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(partial_directory(_temporary(), _SCRATCH))
        except OSError as error:
            why = error.strerror or error
            raise NiwakiError(
                f"temporary files cannot be written ({why}); let TMPDIR name a folder with space"
            ) from error
        yield directory


def _temporary() -> Path:
    """The folder for temporary files. Python finds it by writing a file there, which a kill leaves behind."""
    named = next((os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)), "")
    if tempfile.tempdir is None and os.path.isdir(named):
        return Path(named)
    return Path(tempfile.gettempdir())


def remove_directory(path: Path) -> None:
    """Remove a directory: a kill leaves it whole, or called unfinished. What cannot be removed stays."""
    with suppress(OSError), partial_directory(path.parent, f".{path.name}.") as place:
        os.replace(path, place / path.name)


def clear_below(root: Path) -> None:
    """Remove what killed processes left unfinished anywhere below `root`."""
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            if is_unfinished(Path(name)):
                _clear(Path(folder, name))
        names[:] = [name for name in names if not is_unfinished(Path(name))]


def _held(folder_of_it: Path, prefix: str, *, folder: bool) -> tuple[int, Path]:
    """A new file, or folder, that this process holds: its handle and its path."""
    with suppress(OSError), os.scandir(folder_of_it) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(SUFFIX):
                _clear(Path(entry.path))
    while True:
        handle, path = _new(folder_of_it, prefix, folder)
        if handle is None:
            continue
        _hold(handle)
        if _is_at(handle, path):
            return handle, path
        os.close(handle)  # it was taken for abandoned before it was held


def _new(folder_of_it: Path, prefix: str, folder: bool) -> tuple[int | None, Path]:
    if not folder:
        handle, name = tempfile.mkstemp(dir=folder_of_it, prefix=prefix, suffix=SUFFIX)
        return handle, Path(name)
    path = Path(tempfile.mkdtemp(dir=folder_of_it, prefix=prefix, suffix=SUFFIX))
    if fcntl is None:
        return os.open(os.devnull, os.O_RDONLY), path
    try:
        return os.open(path, os.O_RDONLY), path
    except FileNotFoundError:
        return None, path


def _hold(handle: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks: others cannot take it for abandoned either
            fcntl.flock(handle, fcntl.LOCK_EX)


def _is_at(handle: int, path: Path) -> bool:
    if fcntl is None:
        return True
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _clear(path: Path) -> None:
    """Remove what nobody holds."""
    if fcntl is None:
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    except OSError:
        return
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
