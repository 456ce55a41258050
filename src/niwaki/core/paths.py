"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from niwaki_runtime.errors import CallError

__all__ = ["expanded", "is_file"]


def expanded(path: str | Path) -> Path:
    """`~` and `~name` as the home directory. Raises CallError where nobody knows which one that is.

    >>> expanded("data/a.csv").as_posix()
    'data/a.csv'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise CallError(f"{path}: its home directory is not known; write the path out") from None


def is_file(path: Path) -> bool:
    """Whether a file is there; not so where no file can have the name, as that of a long text.

    >>> is_file(Path("x" * 1000))
    False
    """
    try:
        return path.is_file()
    except OSError:
        return False
