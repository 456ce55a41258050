"""The text fonts that matplotlib carries on board, and their outlines as signed distance fields."""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["CHARACTERS", "FAMILIES", "GRID", "Style", "distance_fields", "font_file", "style_of"]

CHARACTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits

# Only fonts whose 62 characters are all what they say: cmmi10 has old-style figures, cmsy10 and cmex10 map
# letters to symbols, the STIXSiz* and STIXNonUni* have none, and LastResort draws the same box for all.
FAMILIES: dict[str, dict[str, str]] = {
    "DejaVu Sans": {
        "DejaVu Sans": "DejaVuSans.ttf",
        "DejaVu Sans Bold": "DejaVuSans-Bold.ttf",
        "DejaVu Sans Oblique": "DejaVuSans-Oblique.ttf",
        "DejaVu Sans Bold Oblique": "DejaVuSans-BoldOblique.ttf",
    },
    "DejaVu Sans Mono": {
        "DejaVu Sans Mono": "DejaVuSansMono.ttf",
        "DejaVu Sans Mono Bold": "DejaVuSansMono-Bold.ttf",
        "DejaVu Sans Mono Oblique": "DejaVuSansMono-Oblique.ttf",
        "DejaVu Sans Mono Bold Oblique": "DejaVuSansMono-BoldOblique.ttf",
    },
    "DejaVu Serif": {
        "DejaVu Serif": "DejaVuSerif.ttf",
        "DejaVu Serif Bold": "DejaVuSerif-Bold.ttf",
        "DejaVu Serif Italic": "DejaVuSerif-Italic.ttf",
        "DejaVu Serif Bold Italic": "DejaVuSerif-BoldItalic.ttf",
    },
    "Computer Modern": {
        "Computer Modern Roman": "cmr10.ttf",
        "Computer Modern Bold": "cmb10.ttf",
        "Computer Modern Italic": "cmti10.ttf",
        "Computer Modern Sans": "cmss10.ttf",
        "Computer Modern Typewriter": "cmtt10.ttf",
    },
    "STIX": {
        "STIX": "STIXGeneral.ttf",
        "STIX Bold": "STIXGeneralBol.ttf",
        "STIX Italic": "STIXGeneralItalic.ttf",
        "STIX Bold Italic": "STIXGeneralBolIta.ttf",
    },
}


class Style(NamedTuple):
    """What a font looks like, in words: `regular` or `bold`, `upright` or `italic`, `sans`, `serif` or
    `mono`."""

    weight: str
    slant: str
    shape: str


def style_of(font: str) -> Style:
    """The style of a font of `FAMILIES`, which its name tells."""
    plain = "sans" if "Sans" in font else "serif"
    return Style(
        "bold" if "Bold" in font else "regular",
        "italic" if "Italic" in font or "Oblique" in font else "upright",
        "mono" if "Mono" in font or "Typewriter" in font else plain,
    )


GRID = 128  # pixels along a field's edge
EM = 84  # pixels of a font's em square in a field: every character fits, with room for the distance
BASELINE = 88  # pixels from a field's top to the baseline
FINE = 4  # a character is drawn that much larger and averaged down: hinting and rounding stay below a pixel


def font_file(name: str) -> Path:
    """Where matplotlib keeps the font file `name`."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name


def distance_fields(files: Iterable[str]) -> np.ndarray:
    """Signed distance to the outline, in ems, positive inside: `(fonts, 62, GRID, GRID)` float32.

    Every character stands on a common baseline, the middle of its ink at the middle of the field. A distance
    field can be shifted, slanted, scaled and made bolder at any resolution (C. Green: Improved Alpha-Tested
    Magnification for Vector Textures and Special Effects, SIGGRAPH 2007).
    """
    from PIL import Image, ImageDraw, ImageFont
    from scipy.ndimage import distance_transform_edt

    fields = []
    for file in files:
        font = ImageFont.truetype(str(font_file(file)), EM * FINE, layout_engine=ImageFont.Layout.BASIC)
        row = []
        for character in CHARACTERS:
            left, _, right, _ = font.getbbox(character, anchor="ls")
            picture = Image.new("L", (GRID * FINE, GRID * FINE))
            place = ((GRID * FINE - left - right) / 2, BASELINE * FINE)
            ImageDraw.Draw(picture).text(place, character, font=font, fill=255, anchor="ls")
            ink = np.asarray(picture.reduce(FINE)) > 127
            row.append(distance_transform_edt(ink) - distance_transform_edt(~ink))
        fields.append(row)
    # between pixel centres the outline lies half a pixel from either: the transform counts 1 there, never 0
    distance = np.asarray(fields, dtype=np.float32)
    return (distance - 0.5 * np.sign(distance)) / EM
