"""One picture file of any size and mode → an array of one size and mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from niwaki_runtime.errors import first_line

__all__ = ["BROKEN", "ENLARGED", "is_grey", "read_picture"]

BROKEN, ENLARGED = 1, 2
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


GREY = ("1", "L", "LA", "La", "I", "F")  # PIL's modes; those of 16 bits begin with I


def is_grey(path: Path) -> bool:
    """Whether a picture is stored without colours, by its head and its palette; one that cannot be read says
    nothing against it."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            if file.mode == "P":
                palette = np.array(file.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
                return bool((palette == palette[:, :1]).all())
            return file.mode in GREY or file.mode.startswith("I")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return True


def read_picture(path: Path, size: int, channels: int, background: int) -> tuple[np.ndarray | None, str]:
    """The picture as `(channels, size, size)` uint8 and "enlarged" if it was smaller; or None and the reason.

    It is turned upright (EXIF), brought to the mode, its shorter side resized to `size` with an antialiasing
    filter, and the middle is cut out. Of an animation the first frame is taken.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            full = file.size
            file.draft(MODES[channels], (2 * size, 2 * size))  # lets JPEG decode at a fraction of its size
            picture = ImageOps.exif_transpose(file)
            picture = _mode(picture, channels, background)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # PIL raises all of these for broken files; its texts may name the path, which the caller has already
        return None, first_line(error).replace(str(path), path.name)
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - size) // 2, (height - size) // 2
    array = np.asarray(picture.crop((left, top, left + size, top + size)))
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return array, "enlarged" if min(full) < size else ""


def _mode(picture, channels: int, background: int):  # type: ignore[no-untyped-def]  # PIL is imported lazily
    """The picture with 1, 3 or 4 channels of 8 bits. Raises ValueError for pixels whose range is unknown."""
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits, which PIL's own conversion would cut off instead of scaling
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels have more than 16 bits")
        picture = Image.fromarray((values / 257 + 0.5).astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError("its pixels are floats of unknown range")
    transparent = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    if channels == 4:
        return picture.convert("RGBA")
    if transparent:
        picture = picture.convert("RGBA")
        behind = Image.new("RGBA", picture.size, (background,) * 3 + (255,))
        picture = Image.alpha_composite(behind, picture)
    return picture.convert(MODES[channels])
