"""Pages of characters in colours, drawn from distance fields."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from niwaki.data.reading.drawn_characters import FILL, render
from niwaki.data.reading.fonts import CHARACTERS
from niwaki.data.reading.page_words import ATTRIBUTES, CHARACTER, COLOURS

__all__ = ["DEPARTURES", "FONTS", "draw_pages"]

FONTS = {
    "sans": ("DejaVu Sans", "DejaVu Sans Bold", "DejaVu Sans Oblique", "DejaVu Sans Bold Oblique"),
    "serif": ("DejaVu Serif", "DejaVu Serif Bold", "DejaVu Serif Italic", "DejaVu Serif Bold Italic"),
}
"""Of every typeface: upright, upright bold, slanted, slanted bold."""
DEPARTURES = 9
"""Numbers that say how a character departs from the plain drawing: place (2), slant, size, weight,
brightness, red, green and blue."""
_EM = {1: 0.5, 2: 0.42, 3: 0.42}  # the em square's share of the edge, by the characters on a page
_AWAY = {1: 0.2, 2: 0.25, 3: 0.25}  # of a corner's middle from the page's, in shares of the edge
_CAPITALS = 0.077  # ems from the middle of a capital down to the middle of its field


def draw_pages(
    pages: np.ndarray,
    values: Mapping[str, tuple[str, ...]],
    fields: Tensor,
    departures: np.ndarray,
    size: int,
) -> Tensor:
    """Images of pages `(n, 3, size, size)` uint8 on black.

    pages:      numbers of values `(n, per_page, attributes)`, in the order of `values`
    values:     of the character and of the attributes that vary; others have their first one
    fields:     distance fields `(fonts · 62, GRID, GRID)`, in the order of `FONTS`
    departures: `(n, per_page, DEPARTURES)`, −1 … 1; all 0 for the plain drawing
    """
    per_page = pages.shape[1]
    number = {name: np.zeros(pages.shape[:2], np.int64) for name in ATTRIBUTES}
    number |= {name: pages[:, :, i] for i, name in enumerate(values)}
    font = 4 * number["typeface"] + 2 * number["slant"] + number["weight"]
    letter = np.array([CHARACTERS.index(c) for c in values[CHARACTER]])[number[CHARACTER]]
    places = values.get("place", ATTRIBUTES["place"])
    centres = np.array([_centre(place, _AWAY[per_page]) for place in places])[number["place"]]
    jitter = np.stack(
        (
            centres[..., 0] + 0.02 * departures[..., 0],
            centres[..., 1] + _CAPITALS * _EM[per_page] + 0.02 * departures[..., 1],
            0.03 * departures[..., 2],
            math.log(_EM[per_page] / FILL) + 0.06 * departures[..., 3],
            0.004 * departures[..., 4],
        ),
        -1,
    )
    colour = np.array(list(COLOURS.values()))[number["colour"]]
    colour = (colour * (0.9 + 0.1 * departures[..., 5:6]) + 0.05 * departures[..., 6:9]).clip(0, 1)
    page = np.zeros((len(pages), 3, size, size), np.float32)
    for k in range(per_page):
        ink = render(fields, font[:, k] * len(CHARACTERS) + letter[:, k], jitter[:, k], size)
        np.maximum(page, ink.numpy() * colour[:, k, :, None, None].astype(np.float32), out=page)
    return torch.from_numpy(np.rint(page).astype(np.uint8))


def _centre(place: str, away: float) -> tuple[float, float]:
    """Where a place is from the middle of the page, to the right and down, in shares of the edge."""
    return (
        away * (("right" in place) - ("left" in place)),
        away * (("bottom" in place) - ("top" in place)),
    )
