"""Why a piece of work failed, in one sentence; and whether that was for want of space."""

from __future__ import annotations

from niwaki.core.errors import NiwakiError
from niwaki_runtime.errors import is_full

__all__ = ["is_disk_full", "reason", "refuse_full_disk"]


def reason(error: BaseException) -> str:
    """Why a trial failed."""
    if isinstance(error, NiwakiError):
        return " ".join(str(error).split())
    text = str(error).strip().splitlines()
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return "there was not enough memory"
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def is_disk_full(error: BaseException | None) -> bool:
    """Whether writing failed for want of space, here or in what it was raised from."""
    while error is not None:
        if isinstance(error, OSError) and is_full(error):
            return True
        error = error.__cause__
    return False


def refuse_full_disk(error: BaseException) -> None:
    """Raises NiwakiError where an error is that of a full disk: nothing else would fare better."""
    if is_disk_full(error):
        said = reason(error).removesuffix("; what was there is unchanged")
        raise NiwakiError(
            f"{said}; free some space, then call again: what was finished is there, and the call goes on"
        ) from error
