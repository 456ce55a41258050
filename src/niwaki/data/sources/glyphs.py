"""Letters and figures in the text fonts that matplotlib carries on board, with small seeded jitters.

The class of an image is its character, an attribute is its font. The splits hold the same characters in the
same fonts with different jitters; one font family is kept out of all three and becomes the split `ood`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, nearest
from niwaki.core.store import hash_file
from niwaki.data.cache import cached
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.sources.fonts import CHARACTERS, EM, FAMILIES, GRID, distance_fields, font_file
from niwaki.data.splitting import EXTRA, shares

__all__ = ["GlyphsOptions", "glyphs", "jitters", "render"]

VERSION = 2  # of the drawing: a change here makes cached images stale
FILL = 0.75  # the em square's share of an image's edge
OVERSAMPLING = 2  # samples of the distance field per pixel and direction


class GlyphsOptions(Options):
    """Settings of `glyphs`.

    size:     height and width in pixels
    variants: drawings of every character in every font, over all three splits
    held_out: the font family that becomes the split `ood`
    jitter:   strength of all jitters; 0 draws every glyph plainly
    """

    size: int = Field(default=32, ge=8, le=128)
    variants: int = Field(default=28, ge=3, le=1000)
    held_out: str = "STIX"
    jitter: float = Field(default=1.0, ge=0, le=2)


def jitters(n: int, strength: float, seed: int, stream: int) -> np.ndarray:
    """How each drawing departs from the plain one: `(n, 5)` float64.

    Columns, all uniform: place to the right and down (shares of the image's edge, ±0.04 each), slant (shear,
    ±0.12), log-size (±0.08), weight (ems added on every side, −0.003 … 0.015: hairlines survive).
    """
    low = np.array([-0.04, -0.04, -0.12, -0.08, -0.003])
    high = np.array([0.04, 0.04, 0.12, 0.08, 0.015])
    return strength * np.random.default_rng([seed, stream, 0x617]).uniform(low, high, (n, 5))


def render(fields: Tensor, which: np.ndarray, jitter: np.ndarray, size: int, batch: int = 512) -> Tensor:
    """Images `(n, 1, size, size)` uint8 with 256 levels, ink bright on dark.

    fields: distance fields `(fields, GRID, GRID)` in ems; which: field of each image `(n,)`; jitter: `(n, 5)`
    """
    fine = size * OVERSAMPLING
    line = (torch.arange(fine) + 0.5) / fine - 0.5  # pixel centres as shares of the edge, 0 in the middle
    v, u = torch.meshgrid(line, line, indexing="ij")
    ems_per_pixel = 1 / (FILL * fine)
    out = []
    for at in range(0, len(which), batch):
        dx, dy, slant, log_size, weight = (
            torch.from_numpy(jitter[at : at + batch]).float()[:, :, None, None].unbind(1)
        )
        scale = torch.exp(-log_size) / (FILL * GRID / EM)  # from shares of the image to shares of the field
        y = (v - dy) * scale
        x = (u - dx) * scale + slant * y  # y points down: a positive slant leans to the right
        grid = torch.stack((x, y), -1) * 2
        field = fields[torch.from_numpy(which[at : at + batch])].unsqueeze(1)
        distance = F.grid_sample(field, grid, padding_mode="border", align_corners=False) + weight.unsqueeze(
            1
        )
        # a pixel is as bright as the share of it inside the outline, told by the distance of its middle
        ink = (0.5 + distance * torch.exp(log_size).unsqueeze(1) / ems_per_pixel).clamp(0, 1)
        out.append(F.avg_pool2d(ink, OVERSAMPLING).mul_(255).round_().to(torch.uint8))
    return torch.cat(out)


def _draw(
    fonts: dict[str, str], held: dict[str, str], counts: tuple[int, ...], options: GlyphsOptions, seed: int
) -> dict[str, Tensor]:
    """All images with class, font and split; counts: drawings per character and font in each split."""
    fields = torch.from_numpy(distance_fields([*fonts.values(), *held.values()])).flatten(0, 1)
    parts: dict[str, list[Tensor]] = {"x": [], "y": [], "font": [], "split": []}
    for split, count in enumerate(counts):
        first, last = (len(fonts), len(fonts) + len(held)) if split == EXTRA else (0, len(fonts))
        font_grid, class_grid, _ = np.meshgrid(
            np.arange(first, last), np.arange(len(CHARACTERS)), np.arange(count), indexing="ij"
        )
        font, y = font_grid.ravel(), class_grid.ravel()
        jitter = jitters(len(y), options.jitter, seed, split)
        parts["x"].append(render(fields, font * len(CHARACTERS) + y, jitter, options.size))
        parts["y"].append(torch.from_numpy(y))
        parts["font"].append(torch.from_numpy(font))
        parts["split"].append(torch.full((len(y),), split, dtype=torch.int64))
    return {k: torch.cat(v) for k, v in parts.items()}


@register("glyphs", GlyphsOptions)
def glyphs(config: DataConfig, options: GlyphsOptions, progress: Progress | None) -> Pool:
    """Images `(n, 1, size, size)` of 62 characters.

    Raises CallError for a font family that is not on board.
    """
    if options.held_out not in FAMILIES:
        raise CallError(
            f"there is no font family '{options.held_out}'; {nearest(options.held_out, FAMILIES)}"
        )
    fonts = {
        name: file
        for family, kept in FAMILIES.items()
        if family != options.held_out
        for name, file in kept.items()
    }
    held = FAMILIES[options.held_out]
    train, validation, test = shares(options.variants, config.fractions)
    counts = (train, validation, test, test)
    ingredients = {
        "version": VERSION,
        "options": options,
        "seed": config.seed,
        "counts": counts,
        "fonts": {name: hash_file(font_file(file)) for name, file in {**fonts, **held}.items()},
    }
    found, findings = cached("glyphs", ingredients, lambda: _draw(fonts, held, counts, options, config.seed))
    spec = DataSpec.of(
        "image", (1, options.size, options.size), classes=len(CHARACTERS), class_names=tuple(CHARACTERS)
    )
    return Pool(
        "glyphs",
        spec,
        found["x"],
        found["y"],
        attributes={"font": found["font"]},
        attribute_names={"font": (*fonts, *held)},
        assignment=found["split"].numpy(),
        extra=("ood",),
        findings=findings,
    )
