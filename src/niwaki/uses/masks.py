"""Which pixels of given pictures are known: from a mask's file, or from the transparency of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.errors import CallError, first_line
from niwaki.data.reading.pictures import fitted
from niwaki.uses.paths import PICTURES, files_below

__all__ = ["known_pixels", "random_holes", "size_of"]

_HALF = 128
"""Grey (of a mask) or opacity (of a picture) from which on a pixel counts."""
_TOUCHED = 32
"""Of 255: a pixel of the model is unknown where that much of it was, after resizing."""


def known_pixels(mask: Path | None, places: Sequence[Path], shape: tuple[int, ...], n: int) -> np.ndarray:
    """1 where a pixel is known and 0 where it is to be made, float32 `(n, 1, H, W)`.

    mask:   a picture, white where pixels are to be made; it is brought to the model's size as the pictures
            are, and must have theirs. None: they are to be made where the pictures are transparent
    places: the given pictures, files and folders
    shape:  of a sample, `(C, H, W)`
    Raises CallError where nothing says what is to be made, for another size, and for a mask of nothing.
    """
    files = files_below(places) if places else []
    pictures = [file for file in files if file.suffix.lower() in PICTURES]
    if mask is not None:
        unknown, size = _unknown(mask, shape, transparent=False)
        for file in pictures:
            if size_of(file) != size:
                raise CallError(
                    f"the mask {mask} has {size[0]}×{size[1]} pixels and {file} "
                    f"{size_of(file)[0]}×{size_of(file)[1]}; give it the size of the pictures"
                )
        _check_some(unknown, f"the mask {mask} is white nowhere: there is nothing to make")
        return np.repeat(1.0 - unknown[None], n, 0).astype(np.float32)
    if not pictures or len(pictures) != n:
        raise CallError("name a mask, white where pixels are to be made, with mask=FILE.png")
    found = []
    for file in pictures:
        if shape[0] == 4 or not _is_transparent(file):
            raise CallError(
                f"{file} is transparent nowhere: name a mask, white where pixels are to be made, "
                "with mask=FILE.png"
            )
        found.append(_unknown(file, shape, transparent=True)[0])
        _check_some(found[-1], f"{file} is transparent nowhere: there is nothing to make")
    return (1.0 - np.stack(found)).astype(np.float32)


def random_holes(n: int, shape: tuple[int, ...], share: float, seed: int) -> np.ndarray:
    """1 but in one rectangle of each sample, `(n, 1, H, W)` float32: its sides are `share` of the sample's,
    its place is drawn."""
    rng = np.random.default_rng(seed)
    height, width = shape[-2:]
    tall, wide = (min(side, max(1, round(share * side))) for side in (height, width))
    known = np.ones((n, 1, height, width), np.float32)
    for one in known:
        top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
        one[:, top : top + tall, left : left + wide] = 0.0
    return known


def _unknown(file: Path, shape: tuple[int, ...], *, transparent: bool) -> tuple[np.ndarray, tuple[int, int]]:
    """1 where a pixel is to be made `(1, H, W)`, and the size (width, height) of the file."""
    from PIL import Image

    def read(opened: Any) -> tuple[np.ndarray, tuple[int, int]]:
        grey = opened.convert("RGBA").getchannel("A") if transparent else opened.convert("L")
        made = grey.point(lambda v: 255 * ((v < _HALF) if transparent else (v >= _HALF)))
        if shape[1] != shape[2]:
            raise CallError(f"pictures are brought to squares, and the model makes {shape[2]}×{shape[1]}")
        array, _ = fitted(made, shape[1], 1, 255)
        return (array > _TOUCHED).astype(np.float32), opened.size

    return _opened(file, Image, read)


def _is_transparent(file: Path) -> bool:
    from PIL import Image

    return bool(
        _opened(file, Image, lambda o: o.mode in ("RGBA", "LA", "PA", "La") or "transparency" in o.info)
    )


def size_of(file: Path) -> tuple[int, int]:
    """Width and height of a picture's file."""
    from PIL import Image

    size: tuple[int, int] = _opened(file, Image, lambda opened: opened.size)
    return size


def _opened(file: Path, image: Any, read: Any) -> Any:
    try:
        with image.open(file) as opened:
            return read(opened)
    except CallError:
        raise
    except Exception as error:  # PIL's parsers raise whatever broken bytes lead them to
        raise CallError(f"{file} cannot be read: {first_line(error)}") from error


def _check_some(unknown: np.ndarray, text: str) -> None:
    if not unknown.any():
        raise CallError(text)
