"""Files and folders that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from niwaki.core.errors import CallError

__all__ = ["ARRAYS", "PICTURES", "files_below"]

ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def files_below(
    places: Sequence[Path],
    endings: tuple[str, ...] = (*PICTURES, *ARRAYS),
    what: str = "pictures and no arrays",
) -> list[Path]:
    """The files themselves; of a directory all pictures and arrays in it, in the order of their names.

    endings, what: other files of a directory, and how a sentence calls them
    Raises CallError for a place that is not there or a directory without any.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in endings)
            if not inside:
                raise CallError(f"{place} holds no {what}")
            found += inside
        elif place.is_file():
            found.append(place)
        else:
            raise CallError(f"{place} does not exist")
    return found
