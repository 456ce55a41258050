"""Which files of a folder are clips: animations, films, and folders of frames."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from niwaki.data.reading.pictures import fitted, is_grey, read_picture
from niwaki.data.reading.walking import ending
from niwaki.modalities.movies import MOVIES, movie_frames
from niwaki_runtime.errors import first_line

__all__ = ["CLIPS", "FRAMES", "all_grey", "gathered", "read_clip"]

ANIMATIONS = ("gif", "webp", "apng")
CLIPS = (*ANIMATIONS, *MOVIES)
"""Endings of files that are clips by themselves."""
_ROUNDING = (
    2  # levels by which the channels of a grey film differ, since it is stored as brightness and colour
)
FRAMES = ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "ppm", "pgm")


def gathered(files: Sequence[str]) -> dict[str, list[str]]:
    """The clips among relative paths: name → files, an animation or a film under its own name, frames
    under that of their folder, in the order of the numbers in their names (frame 2 before frame 10).

    >>> gathered(["cats/a.gif", "dogs/run/10.png", "dogs/run/9.png"])
    {'cats/a.gif': ['cats/a.gif'], 'dogs/run': ['dogs/run/9.png', 'dogs/run/10.png']}
    """
    clips: dict[str, list[str]] = {}
    for path in sorted(files, key=_numbered):
        name = path if ending(path) in CLIPS else path.rpartition("/")[0]
        clips.setdefault(name, []).append(path)
    return dict(sorted(clips.items()))


def read_clip(
    root: Path, files: Sequence[str], settings: Mapping[str, int], every: int
) -> tuple[np.ndarray | None, str]:
    """Every `every`-th frame `(T, channels, size, size)` uint8, or None and the reason.

    settings: size, channels and background, as of `read_picture`
    """
    try:
        frames = list(islice(_frames(root, files, settings), 0, None, every))
    except Exception as error:
        # PIL's parsers raise whatever broken bytes lead them to
        return None, first_line(error).replace(f"{root}/", "").replace("\n", " ")
    return np.stack(frames), ""


def _frames(root: Path, files: Sequence[str], settings: Mapping[str, int]) -> Iterator[np.ndarray]:
    from PIL import Image, ImageSequence

    if ending(files[0]) in ANIMATIONS:
        with Image.open(root / files[0]) as file:
            for frame in ImageSequence.Iterator(file):
                yield fitted(frame, **settings)[0]
        return
    if ending(files[0]) in MOVIES:
        for page in movie_frames(root / files[0]):
            yield fitted(Image.fromarray(page), **settings)[0]
        return
    for path in files:
        picture, reason = read_picture(root / path, **settings)
        if picture is None:
            raise ValueError(f"{path.rpartition('/')[2]}: {reason}")
        yield picture


def all_grey(root: Path, files: Sequence[str]) -> bool:
    """Whether no file has colours; of a film the first frame tells, where it can be read."""
    return all(_grey_film(root / path) if ending(path) in MOVIES else is_grey(root / path) for path in files)


def _grey_film(path: Path) -> bool:
    try:
        first = next(movie_frames(path)).astype(int)
    except Exception:  # what is broken is named when it is read
        return True
    return int(np.ptp(first, axis=-1).max()) <= _ROUNDING


def _numbered(path: str) -> list[tuple[int, int, str]]:
    """Digits compare as numbers, all else as text."""
    parts = re.split(r"(\d+)", path)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]
