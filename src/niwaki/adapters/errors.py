"""What other people's code says when it fails."""

from __future__ import annotations

__all__ = ["first_line"]


def first_line(error: Exception) -> str:
    """The first line of its message, or its kind where it has none.

    >>> first_line(ValueError("no such width\\nTraceback …"))
    'no such width'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
