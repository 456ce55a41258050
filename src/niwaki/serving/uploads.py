"""Files that a request brings, as the uses read them: in a folder of their own, by names of our own."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.array_files import npy_bytes
from niwaki.serving.settings import Limits
from niwaki_runtime.errors import CallError

__all__ = ["ENDINGS", "store", "stored_settings"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
ENDINGS = (*PICTURES, ".npy", ".wav", ".txt", ".nwk")
"""What may be sent. No archives: a few bytes of them may unpack to anything."""


def store(files: Any, folder: Path, limits: Limits, named: str = "files") -> list[Path]:
    """Each file in `folder`, called by its place and its ending: nothing that a caller says is a path.

    files: `[{"name": "a.png", "data": base64}]`, or `[{"array": [[…]]}]`; one alone may stand without a list
    Raises CallError for another form, an ending that is not among ENDINGS, and for too many pixels.
    """
    given = files if isinstance(files, list) else [] if files is None else [files]
    places = []
    for i, one in enumerate(given):
        ending, data = _content(one, f"{named}[{i}]")
        if ending in PICTURES:
            _check_pixels(data, limits, f"{named}[{i}]")
        elif ending == ".npy":
            _check_array(data, f"{named}[{i}]")
        place = folder / f"{named}-{i}{ending}"
        place.write_bytes(data)
        places.append(place)
    return places


def _content(one: Any, named: str) -> tuple[str, bytes]:
    if isinstance(one, dict) and "array" in one:
        return ".npy", _array(one["array"], named)
    if not isinstance(one, dict) or not all(isinstance(one.get(k), str) for k in ("name", "data")):
        raise CallError(f"{named} must be a table with 'name' and 'data' (base64), or with 'array'")
    name = one["name"].lower()
    ending = next((e for e in ENDINGS if name.endswith(e)), None)
    if ending is None:
        raise CallError(f"{named} must be one of {', '.join(ENDINGS)}, not '{one['name']:.60}'")
    try:
        data = base64.b64decode(one["data"].rpartition("base64,")[2], validate=True)
    except ValueError:
        raise CallError(f"'data' of {named} is no base64") from None
    return ending, data


def _array(values: Any, named: str) -> bytes:
    try:
        array = np.asarray(values, np.float32)
    except (ValueError, TypeError):
        raise CallError(f"'array' of {named} must be numbers in lists of equal lengths") from None
    return npy_bytes(array)


def _check_pixels(data: bytes, limits: Limits, named: str) -> None:
    """Only the head is read: a small file may say that it is a very large picture."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
    except Exception:  # PIL's parsers raise whatever broken bytes lead them to
        raise CallError(f"{named} is no picture that can be read") from None
    if width * height > limits.pixels:
        raise CallError(f"{named} has {width}×{height} pixels; at most {limits.pixels:,} are taken")


def _check_array(data: bytes, named: str) -> None:
    """The values that a head promises must be there, so that none are made room for that are not."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[version](file)
    except (ValueError, KeyError, EOFError):
        raise CallError(f"{named} is no array that numpy can read") from None
    if dtype.hasobject or int(np.prod(shape, dtype=object)) * dtype.itemsize != len(data) - file.tell():
        raise CallError(f"{named} does not hold the array that its head describes")


def stored_settings(
    settings: dict[str, Any], names: Sequence[str], folder: Path, limits: Limits
) -> dict[str, Any]:
    """Settings of a use, those that name a file stored as one. Raises CallError where one is a path."""
    found = dict(settings)
    for name in names:
        if name in found:
            if not isinstance(found[name], dict):
                raise CallError(f'\'{name}\' is a file here: send it, as {{"name": "a.png", "data": base64}}')
            (place,) = store(found[name], folder, limits, name)
            found[name] = str(place)
    return found
