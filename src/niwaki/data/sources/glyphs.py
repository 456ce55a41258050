"""Letters and figures in the text fonts that matplotlib carries on board, with small seeded jitters.

The class of an image is its character, an attribute is its font. The splits hold the same characters in the
same fonts with different jitters; one font family is kept out of all three and becomes the split `ood`.
With `captions` the splits hold different combinations of character and style; with `domains` two styles are
two columns, unpaired.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, nearest
from niwaki.core.store import hash_file
from niwaki.data.cache import cached
from niwaki.data.columns import Column
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.feeder import permutation
from niwaki.data.reading.captions import caption_column
from niwaki.data.reading.drawn_characters import render
from niwaki.data.reading.fonts import CHARACTERS, FAMILIES, distance_fields, font_file, style_of
from niwaki.data.splitting import EXTRA, OOD, by_hash, shares
from niwaki_runtime.tokenizer import FILE

__all__ = ["GlyphsOptions", "caption_of", "glyphs", "jitters", "two_styles"]

VERSION = 2  # of the drawing: a change here makes cached images stale
SIDES = {"weight": ("regular", "bold"), "slant": ("upright", "italic")}
_SECOND = 16  # streams of jitters between those of the first domain and of the second


class GlyphsOptions(Options):
    """Settings of `glyphs`.

    size:     height and width in pixels
    variants: drawings of every character in every font, over all three splits
    held_out: the font family that becomes the split `ood`
    jitter:   strength of all jitters; 0 draws every glyph plainly
    captions: a column `caption`, such as "bold serif letter A". A caption is in one split only: those of
              `validation` and `test` are combinations of style and character that are not trained on
    domains:  two styles as the columns `x` and `x_b`, without pairs: `weight` (regular, bold) or `slant`
              (upright, italic) of the fonts that have both; `class_b` are the classes of `x_b`
    """

    size: int = Field(default=32, ge=8, le=128)
    variants: int = Field(default=28, ge=3, le=1000)
    held_out: str = "STIX"
    jitter: float = Field(default=1.0, ge=0, le=2)
    captions: bool = Field(default=False, exclude_if=lambda value: not value)
    domains: Literal["weight", "slant"] | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.captions and self.domains:
            raise ValueError("captions and domains are not had together")
        return self


def jitters(n: int, strength: float, seed: int, stream: int) -> np.ndarray:
    """How each drawing departs from the plain one: `(n, 5)` float64.

    Columns, all uniform: place to the right and down (shares of the image's edge, ±0.04 each), slant (shear,
    ±0.12), log-size (±0.08), weight (ems added on every side, −0.003 … 0.015: hairlines survive).
    """
    low = np.array([-0.04, -0.04, -0.12, -0.08, -0.003])
    high = np.array([0.04, 0.04, 0.12, 0.08, 0.015])
    return strength * np.random.default_rng([seed, stream, 0x617]).uniform(low, high, (n, 5))


def caption_of(font: str, character: str) -> str:
    """What a drawing shows, in words.

    >>> caption_of("DejaVu Serif Bold", "A")
    'bold serif letter A'
    >>> caption_of("Computer Modern Typewriter", "7")
    'mono figure 7'
    """
    style = [word for word in style_of(font) if word not in ("regular", "upright")]
    return " ".join((*style, "figure" if character.isdigit() else "letter", character))


def two_styles(fonts: Iterable[str], trait: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Fonts on either side of a trait (`weight`, `slant`) that have a sibling on the other one: of their
    family, and like them in all else.

    >>> two_styles(["DejaVu Sans", "DejaVu Sans Bold", "Computer Modern Sans"], "weight")
    (('DejaVu Sans',), ('DejaVu Sans Bold',))
    """
    family = {name: family for family, members in FAMILIES.items() for name in members}
    sides: dict[str, dict[tuple[str, ...], str]] = {side: {} for side in SIDES[trait]}
    for font in fonts:
        style = style_of(font)._asdict()
        sides[style.pop(trait)].setdefault((family[font], *style.values()), font)
    first, second = sides.values()
    both = [siblings for siblings in first if siblings in second]
    return tuple(first[k] for k in both), tuple(second[k] for k in both)


class _Drawing:
    """Draws characters in fonts of a list.

    fonts: name → file
    """

    def __init__(self, fonts: Mapping[str, str], options: GlyphsOptions, seed: int) -> None:
        self.fields = torch.from_numpy(distance_fields(fonts.values())).flatten(0, 1)
        self.numbers = {name: i for i, name in enumerate(fonts)}
        self.options, self.seed = options, seed

    def splits(
        self, fonts: Iterable[str], held: Iterable[str], counts: Sequence[int], stream: int = 0
    ) -> dict[str, Tensor]:
        """Every character in `fonts` (of the extra split: in `held`), drawn `counts` times in each split.

        stream: of the jitters of the first split
        """
        parts: dict[str, list[Tensor]] = {"x": [], "y": [], "font": [], "split": []}
        for split, count in enumerate(counts):
            if not count:
                continue
            which = [self.numbers[name] for name in (held if split == EXTRA else fonts)]
            grids = np.meshgrid(which, np.arange(len(CHARACTERS)), np.arange(count), indexing="ij")
            font, y = grids[0].ravel(), grids[1].ravel()
            jitter = jitters(len(y), self.options.jitter, self.seed, stream + split)
            parts["x"].append(render(self.fields, font * len(CHARACTERS) + y, jitter, self.options.size))
            parts["y"].append(torch.from_numpy(y))
            parts["font"].append(torch.from_numpy(font))
            parts["split"].append(torch.full((len(y),), split, dtype=torch.int64))
        return {k: torch.cat(v) for k, v in parts.items()}


def _draw(
    fonts: dict[str, str], held: dict[str, str], counts: tuple[int, ...], options: GlyphsOptions, seed: int
) -> dict[str, Tensor]:
    """All images with class, font and split; counts: drawings per character and font in each split."""
    drawing = _Drawing({**fonts, **held}, options, seed)
    if options.domains is None:
        return drawing.splits(fonts, held, counts)
    (a, b), (held_a, held_b) = two_styles(fonts, options.domains), two_styles(held, options.domains)
    found = drawing.splits(a, held_a, counts)
    second = drawing.splits(b, held_b, counts, stream=_SECOND)
    # Rows of unpaired columns stay in this order, and the first of them have to be a fair choice.
    order = torch.from_numpy(permutation(len(second["y"]), seed, 0, stream=1))
    return {**found, **{f"{k}_b": v[order] for k, v in second.items()}}


def _by_caption(found: dict[str, Tensor], fonts: Sequence[str], config: DataConfig) -> tuple[Column, str]:
    """The column of captions and its tokenizer. Sets each drawing's split by its caption: the shares are
    those of captions."""
    pairs, which = torch.unique(torch.stack([found["font"], found["y"]], 1), dim=0, return_inverse=True)
    texts = [caption_of(fonts[font], CHARACTERS[y]) for font, y in pairs.tolist()]
    split = torch.from_numpy(by_hash([text.encode() for text in texts], config.fractions, config.seed))
    found["split"] = torch.where(found["split"] == EXTRA, EXTRA, split[which])
    return caption_column(texts, which)


@register("glyphs", GlyphsOptions)
def glyphs(config: DataConfig, options: GlyphsOptions, progress: Progress | None) -> Pool:
    """Images `(n, 1, size, size)` of 62 characters.

    Raises CallError for a font family that is not on board, and for one that is kept out and lacks one of
    two styles.
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
    counts = (options.variants, 0, 0, test) if options.captions else (train, validation, test, test)
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
    columns, files = {}, {}
    if options.captions:
        columns["caption"], files[FILE] = _by_caption(found, (*fonts, *held), config)
    if options.domains:
        columns = {
            "x_b": Column(spec.x, found["x_b"], paired=False),
            "class_b": Column(spec["class"], found["y_b"], paired=False),
        }
    return Pool(
        "glyphs",
        spec,
        found["x"],
        found["y"],
        columns=columns,
        attributes={"font": found["font"]},
        attribute_names={"font": (*fonts, *held)},
        assignment=found["split"].numpy(),
        unpaired={name: found["split_b"].numpy() for name in columns if options.domains},
        extra=(OOD,),
        findings=findings,
        files=files,
    )
