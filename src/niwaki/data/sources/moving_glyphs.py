"""Clips of letters and figures that move with constant velocity and bounce off the borders: `moving-digits`
with the characters of `glyphs`, whose jitters differ from split to split."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from niwaki.data.config import DataConfig, Pool, Progress, register
from niwaki.data.reading.moving import MovingOptions, moving_pool
from niwaki.data.sources.glyphs import GlyphsOptions, glyphs
from niwaki.data.splitting import SPLITS

__all__ = ["MovingGlyphsOptions", "moving_glyphs"]


class MovingGlyphsOptions(MovingOptions):
    """Settings of `moving-glyphs`: those of `MovingOptions`, and

    glyph:    height and width of a character, in pixels
    variants: drawings of every character in every font, over all three splits
    """

    size: int = Field(default=24, ge=9, le=128)
    glyph: int = Field(default=12, ge=8, le=64)
    variants: int = Field(default=10, ge=3, le=100)


@register("moving-glyphs", MovingGlyphsOptions)
def moving_glyphs(config: DataConfig, options: MovingGlyphsOptions, progress: Progress | None) -> Pool:
    """Clips `(samples, frames − past, 1, size, size)` of one character each, with 256 levels and 62 classes;
    columns as of `moving-digits`.

    Raises CallError where `past` leaves no frame, and for a `size` that leaves no room to move.
    """
    single = glyphs(config, GlyphsOptions(size=options.glyph, variants=options.variants), progress)
    assert single.assignment is not None
    members = [np.flatnonzero(single.assignment == split) for split in range(len(SPLITS))]
    return moving_pool(
        single, members, config, options,
        name="moving-glyphs", things=1, stream=0x61F, progress=progress,
    )  # fmt: skip
