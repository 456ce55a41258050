"""One picture file of any size and mode → an array of one size and mode."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from niwaki_runtime.errors import first_line

__all__ = [
    "ANIMATED",
    "BROKEN",
    "DEEP",
    "ENLARGED",
    "REMARKS",
    "SHALLOW",
    "fitted",
    "is_grey",
    "read_picture",
]

BROKEN, ENLARGED, ANIMATED, SHALLOW, DEEP = 1, 2, 4, 8, 16
REMARKS = {"enlarged": ENLARGED, "animated": ANIMATED, "shallow": SHALLOW, "deep": DEEP}
"""What `read_picture` remarks, as bits."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


GREY = ("1", "L", "LA", "La", "I", "F")  # PIL's modes; those of 16 bits begin with I


def _opened(source: Path | bytes) -> Path | BytesIO:
    return BytesIO(source) if isinstance(source, bytes) else source


def is_grey(source: Path | bytes) -> bool:
    """Whether a picture is stored without colours, by its head and its palette; one that cannot be read says
    nothing against it."""
    from PIL import Image

    try:
        with Image.open(_opened(source)) as file:
            if file.mode == "P":
                palette = np.array(file.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
                return bool((palette == palette[:, :1]).all())
            return file.mode in GREY or file.mode.startswith("I")
    except Exception:  # PIL's parsers raise whatever broken bytes lead them to
        return True


def read_picture(
    source: Path | bytes, size: int, channels: int, background: int
) -> tuple[np.ndarray | None, str]:
    """The picture as `(channels, size, size)` uint8 and remarks; or None and the reason.

    source:  its file, or the bytes of one
    remarks: words of REMARKS with blanks between: `enlarged` if it was smaller, `animated` if it has more
             than one frame, `shallow` or `deep` if 32 bits were read as 8 or as 16

    It is turned upright (EXIF), brought to the mode, its shorter side resized to `size` with an antialiasing
    filter, and the middle is cut out. Of an animation the first frame is taken.
    """
    from PIL import Image

    try:
        with Image.open(_opened(source)) as file:
            full = file.size
            file.draft(MODES[channels], (2 * size, 2 * size))  # lets JPEG decode at a fraction of its size
            array, remarks = fitted(file, size, channels, background)
            animated = _animated(file)
    except Exception as error:
        # PIL's parsers raise whatever broken bytes lead them to. Some texts name the path, as callers do
        reason = first_line(error)
        if isinstance(source, Path):
            reason = reason.replace(str(source), source.name)
        return None, reason.replace("\n", " ")
    remarks += ["enlarged"] * (min(full) < size) + ["animated"] * animated
    return array, " ".join(remarks)


def fitted(picture, size: int, channels: int, background: int):  # type: ignore[no-untyped-def]
    """An opened picture (of an animation its present frame) as `(channels, size, size)` uint8, and remarks.
    Raises what PIL raises, and ValueError for pixels whose range is unknown."""
    from PIL import Image

    picture, remarks = _mode(_middle(_upright(picture)), channels, background)
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - size) // 2, (height - size) // 2
    array = np.asarray(picture.crop((left, top, left + size, top + size)))
    return (array[None] if array.ndim == 2 else array.transpose(2, 0, 1)), remarks


def _animated(picture) -> bool:  # type: ignore[no-untyped-def]  # PIL is imported lazily
    """Whether there is more than the frame that was read; the small preview in a photograph is none."""
    try:
        return bool(getattr(picture, "is_animated", False)) and picture.format != "MPO"
    except Exception:  # a frame that cannot be found says nothing of the first one
        return False


def _upright(picture):  # type: ignore[no-untyped-def]  # PIL is imported lazily
    """The picture as its EXIF says it is to be seen. The tags are not written anew: one of an unusual type
    would stop that, and the pixels are fine."""
    from PIL import ExifTags, Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    try:
        turn = turns.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # tags that cannot be read turn nothing
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _middle(picture):  # type: ignore[no-untyped-def]
    """The middle of a strip, at most eight times as long as wide: enlarged whole, one of 257 bytes would take
    gigabytes. What is left is far wider than what the filter sees around the square that is cut out."""
    side, (width, height) = 8 * min(picture.size), picture.size
    if max(width, height) <= side:
        return picture
    left, top = max(0, (width - side) // 2), max(0, (height - side) // 2)
    return picture.crop((left, top, min(width, left + side), min(height, top + side)))


def _mode(picture, channels: int, background: int):  # type: ignore[no-untyped-def]
    """The picture with 1, 3 or 4 channels of 8 bits, and remarks. Raises ValueError for pixels whose range is
    unknown."""
    from PIL import Image

    remarks: list[str] = []
    if picture.mode.startswith("I"):  # 16 bits, which PIL's own conversion would cut off instead of scaling
        picture, remarks = _eight_bits(picture)
    elif picture.mode == "F":
        raise ValueError("its pixels are floats of unknown range")
    transparent = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    if channels == 4:
        return picture.convert("RGBA"), remarks
    if transparent:
        picture = picture.convert("RGBA")
        behind = Image.new("RGBA", picture.size, (background,) * 3 + (255,))
        picture = Image.alpha_composite(behind, picture)
    return picture.convert(MODES[channels]), remarks


def _eight_bits(picture):  # type: ignore[no-untyped-def]
    """Grey of 16 bits as grey of 8, its transparent value as an alpha channel; of 32 bits the same, or as it
    is where no value is above 255. Raises ValueError for more than 16 bits."""
    from PIL import Image

    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels have more than 16 bits")
    unit = 1 if picture.mode == "I" and values.max() < 256 else 257
    remarks = [] if picture.mode != "I" else ["shallow" if unit == 1 else "deep"]
    grey = Image.fromarray((values / unit + 0.5).astype(np.uint8))
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey, remarks
