"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from niwaki_runtime.errors import CallError

__all__ = ["expanded"]


def expanded(path: str | Path) -> Path:
    """`~` and `~name` as the home directory. Raises CallError where nobody knows which one that is.

    >>> expanded("data/a.csv").as_posix()
    'data/a.csv'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise CallError(f"{path}: its home directory is not known; write the path out") from None
