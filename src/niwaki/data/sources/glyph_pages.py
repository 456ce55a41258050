"""Pages of one to three characters with a weight, a slant, a colour and a place each, and captions that say
so: text to image where the truth is known.

Page i of a split follows from the seed and i alone, so that a larger data set begins with the smaller one.
Pages are drawn in blocks, and a block that was drawn before comes from the cache. Every caption belongs to
one split; pairs of attributes that are held out (`red+slanted`) are seen in a split of their own alone.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, ValueSpec, nearest
from niwaki.core.store import hash_file
from niwaki.data.audit import Finding
from niwaki.data.cache import cached
from niwaki.data.columns import Column
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.reading.captions import caption_column
from niwaki.data.reading.fonts import CHARACTERS, FAMILIES, distance_fields, font_file
from niwaki.data.reading.page_drawing import DEPARTURES, FONTS, draw_pages
from niwaki.data.reading.page_words import (
    ATTRIBUTES,
    CHARACTER,
    CORNERS,
    longest,
    page_caption,
    vocabulary,
)
from niwaki.data.splitting import EXTRA, SPLITS, by_hash, shares
from niwaki_runtime.tokenizer import FILE

__all__ = ["UNSEEN_PAIRS", "GlyphPagesOptions", "captions_of", "glyph_pages"]

UNSEEN_PAIRS = "unseen_pairs"
"""The split of pages that hold a pair of attributes which is held out of all others."""

VERSION = 1  # of the drawing: a change here makes cached pages stale
BLOCK = 2048  # pages drawn, and cached, at a time
_FRUITLESS = 30  # blocks of candidates in a row without a page: there are none
Attribute = Literal["weight", "slant", "typeface", "colour", "place"]


class GlyphPagesOptions(Options):
    """Settings of `glyph-pages`.

    samples:    pages over train, validation and test
    size:       height and width in pixels
    per_page:   characters on every page, 1 … 3. Several stand in the corners, in the order of reading
    characters: those that occur. The default leaves out what looks alike (0 and O, 1 and I)
    attributes: what varies and is told. Without `weight`, `slant`, `typeface`, `colour` or `place` all are
                regular, upright, sans, white, and in the middle
    held_out:   pairs such as `red+slanted` or `A+bold` that no character of train, validation and test has;
                as many pages as in `test`, each with such a character, become the split `unseen_pairs`
    jitter:     strength of the small departures of place, slant, size, weight and colour; 0 for none
    """

    samples: int = Field(default=24_000, ge=100, le=4_000_000)
    size: int = Field(default=32, ge=16, le=128)
    per_page: int = Field(default=1, ge=1, le=3)
    characters: str = Field(default="ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789", min_length=1)
    attributes: tuple[Attribute, ...] = ("weight", "slant", "colour", "place")
    held_out: tuple[str, ...] = ()
    jitter: float = Field(default=1.0, ge=0, le=2)

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if strange := sorted(set(self.characters) - set(CHARACTERS)):
            raise ValueError(f"characters: {' '.join(strange)} cannot be drawn, only {CHARACTERS}")
        for name, given in (("characters", self.characters), ("attributes", self.attributes)):
            if len(set(given)) < len(given):
                raise ValueError(f"{name} names one twice")
        if self.per_page > 1 and "place" not in self.attributes:
            raise ValueError(f"per_page: {self.per_page} characters need attributes with 'place'")
        self.pairs()
        return self

    def values(self) -> dict[str, tuple[str, ...]]:
        """The values of the character and of every attribute that is told, in the order of captions."""
        found: dict[str, tuple[str, ...]] = {CHARACTER: tuple(self.characters)}
        found |= {name: values for name, values in ATTRIBUTES.items() if name in self.attributes}
        if self.per_page > 1:
            found["place"] = CORNERS
        return found

    def pairs(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """The pairs that are held out, each value as (number of the attribute, number of the value)."""
        values = list(self.values().values())
        place = {value: (a, v) for a, row in enumerate(values) for v, value in enumerate(row)}
        pairs = []
        for text in self.held_out:
            parts = [part.strip() for part in text.split("+")]
            for part in parts:
                if part not in place:
                    raise ValueError(f"held_out: there is no '{part}'; {nearest(part, place)}")
            found = [place[part] for part in parts]
            if len(found) != 2 or found[0][0] == found[1][0]:
                raise ValueError(f"held_out: '{text}' is no pair of two attributes, such as 'red+slanted'")
            pairs.append((found[0], found[1]))
        return pairs


def _candidates(rng: np.random.Generator, n: int, options: GlyphPagesOptions, unseen: bool) -> np.ndarray:
    """Pages as numbers of values `(n, per_page, 1 + attributes)`, all values equally frequent.

    unseen: whether one character of each page is given a pair that is held out; otherwise none has one
    """
    counts = [len(row) for row in options.values().values()]
    pages = np.stack([rng.integers(k, size=(n, options.per_page)) for k in counts], -1)
    if options.per_page > 1:  # no place twice, and in the order of reading
        places = rng.permuted(np.tile(np.arange(len(CORNERS)), (n, 1)), axis=1)[:, : options.per_page]
        pages[:, :, list(options.values()).index("place")] = np.sort(places, 1)
    pairs = np.array(options.pairs(), dtype=np.int64).reshape(-1, 2, 2)
    if unseen:
        chosen, whose = pairs[rng.integers(len(pairs), size=n)], rng.integers(options.per_page, size=n)
        for attribute, value in chosen.transpose(1, 2, 0):
            pages[np.arange(n), whose, attribute] = value
        return pages[_in_order(pages, options)]
    held = np.zeros(n, dtype=bool)
    for (a, v), (b, w) in pairs:
        held |= ((pages[:, :, a] == v) & (pages[:, :, b] == w)).any(1)
    return pages[~held]


def _in_order(pages: np.ndarray, options: GlyphPagesOptions) -> np.ndarray:
    """Whether places still rise along each page, after one of them was set `(n,)` bool."""
    if options.per_page == 1:
        return np.ones(len(pages), dtype=bool)
    places = pages[:, :, list(options.values()).index("place")]
    return np.asarray((np.diff(places, axis=1) > 0).all(1))


def captions_of(pages: np.ndarray, options: GlyphPagesOptions) -> list[str]:
    """The caption of every page; pages: numbers of values `(n, per_page, 1 + attributes)`."""
    names, values = list(options.values()), list(options.values().values())
    return [
        page_caption(
            {name: row[number] for name, row, number in zip(names, values, one, strict=True)} for one in page
        )
        for page in pages.tolist()
    ]


def _pages(config: DataConfig, options: GlyphPagesOptions, split: int, block: int) -> np.ndarray:
    """The pages of a whole block of a split, as numbers of values `(BLOCK, per_page, 1 + attributes)`.

    Raises CallError where no caption falls into the split.
    """
    rng = np.random.default_rng([config.seed, split, block, 0x9A6E])
    found: list[np.ndarray] = []
    tried = 0
    while sum(map(len, found)) < BLOCK:
        pages = _candidates(rng, BLOCK, options, split == EXTRA)
        if split != EXTRA:
            texts = [text.encode() for text in captions_of(pages, options)]
            pages = pages[by_hash(texts, config.fractions, config.seed) == split]
        found.append(pages)
        tried += 1
        if tried == _FRUITLESS and not sum(map(len, found)):
            raise CallError(
                "these characters and attributes have too few captions to divide: none falls into the "
                f"{(*SPLITS, UNSEEN_PAIRS)[split]} split; vary more of them, or hold out less"
            )
    return np.concatenate(found)[:BLOCK]


class _Fields:
    """The distance fields of the fonts that occur, made when first asked for."""

    def __init__(self, typefaces: tuple[str, ...]) -> None:
        known = {name: file for family in FAMILIES.values() for name, file in family.items()}
        self.files = [known[name] for typeface in typefaces for name in FONTS[typeface]]
        self._made: Tensor | None = None

    def __call__(self) -> Tensor:
        if self._made is None:
            self._made = torch.from_numpy(distance_fields(self.files)).flatten(0, 1)
        return self._made


def _split(
    config: DataConfig, options: GlyphPagesOptions, split: int, count: int, fields: _Fields
) -> tuple[list[Tensor], list[np.ndarray], list[Finding]]:
    """The first `count` pages of a split, block by block: images, numbers of values, what the cache says."""
    ingredients = {
        "version": VERSION,
        "options": options.model_dump(exclude={"samples"}),
        "seed": config.seed,
        "fractions": config.fractions,
        "fonts": [hash_file(font_file(file)) for file in fields.files],
        "split": split,
    }
    values = options.values()
    images, pages, findings = [], [], []
    for block, first in enumerate(range(0, count, BLOCK)):
        n = min(BLOCK, count - first)

        def make(block: int = block, n: int = n) -> dict[str, Tensor]:
            drawn = _pages(config, options, split, block)[:n]
            rng = np.random.default_rng([config.seed, split, block, 0xD7A3])
            departures = rng.uniform(-1, 1, (BLOCK, options.per_page, DEPARTURES))
            return {
                "x": draw_pages(drawn, values, fields(), options.jitter * departures[:n], options.size),
                "values": torch.from_numpy(drawn),
            }

        found, more = cached("glyph-pages", {**ingredients, "block": block, "count": n}, make)
        images.append(found["x"])
        pages.append(found["values"].numpy())
        findings += more
    return images, pages, findings


@register("glyph-pages", GlyphPagesOptions)
def glyph_pages(config: DataConfig, options: GlyphPagesOptions, progress: Progress | None) -> Pool:
    """Images `(n, 3, size, size)` with 256 levels, and the columns `caption`, `class` (the character) and one
    of each attribute that is told; of further characters `character_2`, `weight_2` … in the order of reading.

    Raises CallError where the characters and attributes have too few captions for the splits.
    """
    counts = list(shares(options.samples, config.fractions))
    counts += counts[-1:] if options.held_out else []
    values = options.values()
    fields = _Fields(values.get("typeface", ("sans",)))
    images: list[Tensor] = []
    numbers: list[np.ndarray] = []
    findings: list[Finding] = []
    for split, count in enumerate(counts):
        drawn, pages, more = _split(config, options, split, count, fields)
        images, numbers, findings = images + drawn, numbers + pages, findings + more
        if progress:
            progress(split + 1, len(counts))
    rows = np.concatenate(numbers)
    x = torch.cat(images)
    told = [name for name in values if name != CHARACTER]
    texts, which = np.unique(captions_of(rows, options), return_inverse=True)
    caption, tokenizer = caption_column(
        texts.tolist(), torch.from_numpy(which),
        words=vocabulary(options.characters, told), length=longest(options.per_page, told),
    )  # fmt: skip
    return Pool(
        "glyph-pages",
        DataSpec.of(
            "image",
            tuple(x.shape[1:]),
            classes=len(options.characters),
            class_names=tuple(options.characters),
        ),
        x,
        torch.from_numpy(rows[:, 0, 0].copy()),
        columns={"caption": caption, **_labels(rows, options)},
        assignment=np.repeat(np.arange(len(counts)), counts),
        extra=(UNSEEN_PAIRS,) if options.held_out else (),
        findings=findings,
        files={FILE: tokenizer},
    )


def _labels(rows: np.ndarray, options: GlyphPagesOptions) -> dict[str, Column]:
    """A column of labels for every attribute of every character, but for the first one's character."""
    columns = {}
    for k in range(options.per_page):
        for a, (name, values) in enumerate(options.values().items()):
            called = name if k == 0 else f"{name}_{k + 1}"
            label = ValueSpec.label(len(values), values)
            columns[called] = Column(label, torch.from_numpy(rows[:, k, a].copy()))
    columns.pop(CHARACTER)
    return columns
