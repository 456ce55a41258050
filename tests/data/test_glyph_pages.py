"""Glyph pages: captions, labels and pixels say the same, and what is held out is nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, Split, load
from niwaki.data.config import registered
from niwaki.data.reading.fonts import distance_fields
from niwaki.data.reading.page_words import COLOURS, describe, longest, page_caption, vocabulary
from niwaki.data.sources.glyph_pages import UNSEEN_PAIRS
from niwaki.data.splitting import hash_samples
from niwaki_runtime.tokenizer import Tokenizer

SMALL = {"source": "glyph-pages", "samples": 600, "size": 16}


@pytest.fixture(scope="module", autouse=True)
def outlines_made_once() -> Iterator[None]:
    """The distance fields of a font are the same in every test."""
    made = lru_cache(lambda files: distance_fields(files))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("niwaki.data.sources.glyph_pages.distance_fields", lambda files: made(tuple(files)))
        yield


@pytest.fixture(scope="module")
def pages() -> Dataset:
    return load(DataConfig(**SMALL, held_out=["red+slanted", "A+bold"]))


@pytest.fixture(scope="module")
def crowded() -> Dataset:
    """Three characters on every page, of two typefaces."""
    told = ["weight", "slant", "typeface", "colour", "place"]
    return load(DataConfig(**SMALL, per_page=3, attributes=told, held_out=["bold+serif"]))


def names_of(split: Split, column: str) -> list[str]:
    """Labels in words."""
    found = split.columns[column]
    return [found.spec.names[i] for i in found.data.tolist()]


def captions_of(dataset: Dataset, split: str) -> list[str]:
    tokenizer = Tokenizer(dataset.files["tokenizer.json"])
    return [tokenizer.decode(row) for row in dataset.split(split).columns["caption"].data]


def characters_of(split: Split, per_page: int = 1) -> list[list[dict[str, str]]]:
    """The attributes of every character, by the label columns."""
    told = [name for name in ("weight", "slant", "typeface", "colour", "place") if name in split.columns]
    rows = []
    for k in range(per_page):
        after = "" if k == 0 else f"_{k + 1}"
        columns = {name: names_of(split, name + after) for name in told}
        columns["character"] = names_of(split, "class" if k == 0 else f"character{after}")
        rows.append([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
    return [list(page) for page in zip(*rows, strict=True)]


@pytest.mark.parametrize(
    ("values", "caption"),
    [
        (
            {"character": "A", "weight": "bold", "colour": "red", "place": "top left"},
            "a bold red A at the top left",
        ),
        (
            {"character": "7", "slant": "slanted", "colour": "blue", "place": "bottom right"},
            "a slanted blue 7 at the bottom right",
        ),
        (
            {"character": "q", "weight": "regular", "slant": "upright", "place": "middle"},
            "a q in the middle",
        ),
        ({"character": "A"}, "an A"),
        ({"character": "8"}, "an 8"),
        ({"character": "A", "typeface": "serif"}, "a serif A"),
    ],
)
def test_the_grammar(values: dict[str, str], caption: str) -> None:
    assert describe(values) == caption
    told = [name for name in values if name != "character"]
    assert set(caption.split()) <= set(vocabulary("A78q", told))
    assert len(caption.split()) <= longest(1, told)


def test_captions_say_what_the_labels_say(pages: Dataset, crowded: Dataset) -> None:
    for dataset, per_page in ((pages, 1), (crowded, 3)):
        for name, split in dataset.splits.items():
            assert captions_of(dataset, name) == [page_caption(p) for p in characters_of(split, per_page)]


def test_a_caption_is_in_one_split(pages: Dataset, crowded: Dataset) -> None:
    for dataset in (pages, crowded):
        sets = [set(captions_of(dataset, name)) for name in dataset.splits]
        assert all(not a & b for a, b in combinations(sets, 2))
        assert [len(split) for split in dataset.splits.values()] == [420, 60, 120, 120]


def test_pairs_that_are_held_out_are_in_their_split_alone(pages: Dataset, crowded: Dataset) -> None:
    def odd(one: dict[str, str]) -> bool:
        return {"red", "slanted"} <= set(one.values()) or {"A", "bold"} <= set(one.values())

    def odd_of_many(one: dict[str, str]) -> bool:
        return {"bold", "serif"} <= set(one.values())

    for dataset, per_page, test in ((pages, 1, odd), (crowded, 3, odd_of_many)):
        for name, split in dataset.splits.items():
            shown = [any(map(test, page)) for page in characters_of(split, per_page)]
            assert all(shown) if name == UNSEEN_PAIRS else not any(shown), name
    both = characters_of(pages.extra[UNSEEN_PAIRS])
    assert {len({"red", "slanted"} & set(p[0].values())) for p in both} >= {1, 2}, "both pairs occur"


def test_values_are_equally_frequent() -> None:
    config = DataConfig(source="glyph-pages", samples=6000, size=16)
    columns = registered("glyph-pages").read(config, config.options(), None).columns
    for name in ("class", "weight", "slant", "colour", "place"):
        counts = torch.bincount(columns[name].data[:4200]).double()  # of the training split
        # A hash divides the captions: the share of a value in those to train on is off by some percent.
        assert (counts * columns[name].spec.levels / 4200 - 1).abs().max() < 0.35, name


def test_pixels_have_the_colour_and_the_place_that_is_told(pages: Dataset) -> None:
    palette = np.array(list(COLOURS.values()))
    x = pages.train.x.numpy().astype(float)
    ink = x.max(1)
    v, u = (np.mgrid[:16, :16] + 0.5) / 16 - 0.5
    mass = ink.sum((1, 2))
    right, down = ((ink * axis).sum((1, 2)) / mass for axis in (u, v))
    brightest = ink.reshape(len(x), -1).argmax(1)
    colour = x.reshape(len(x), 3, -1)[np.arange(len(x)), :, brightest] / 255
    unit = palette / np.linalg.norm(palette, axis=1, keepdims=True)
    nearest = (colour / np.linalg.norm(colour, axis=1, keepdims=True) @ unit.T).argmax(1)
    assert (nearest == pages.train.columns["colour"].data.numpy()).mean() > 0.97
    for place, x_, y_ in zip(names_of(pages.train, "place"), right, down, strict=True):
        words = set(place.split())
        assert (x_ > 0.1) == ("right" in words)
        assert (x_ < -0.1) == ("left" in words)
        assert (y_ > 0.1) == ("bottom" in words)
        assert (y_ < -0.1) == ("top" in words)


def test_bold_has_more_ink_and_slanted_leans_to_the_right() -> None:
    """With no jitter and no colour, at one place: the drawings of one character differ in style alone."""
    config = DataConfig(
        source="glyph-pages", samples=400, jitter=0, characters="HIT", attributes=["weight", "slant", "place"]
    )
    pool = registered("glyph-pages").read(config, config.options(), None)
    x, label = pool.x[:, 0].double().numpy(), {k: v.data.numpy() for k, v in pool.columns.items()}
    v, u = np.mgrid[:32, :32]
    shapes = {}
    for row, (weight, slant, character) in enumerate(
        zip(label["weight"], label["slant"], label["class"], strict=True)
    ):
        w = x[row] / x[row].sum()
        lean = (w * (u - (w * u).sum()) * ((w * v).sum() - v)).sum()
        shapes[int(weight), int(slant), int(character)] = (x[row].sum(), lean)
    for c in range(3):
        for slant in range(2):
            if {(0, slant, c), (1, slant, c)} <= shapes.keys():
                assert shapes[1, slant, c][0] > 1.4 * shapes[0, slant, c][0]
        for weight in range(2):
            if {(weight, 0, c), (weight, 1, c)} <= shapes.keys():
                assert shapes[weight, 1, c][1] > shapes[weight, 0, c][1] + 1
    assert len(shapes) >= 8


def test_a_larger_data_set_begins_with_the_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("niwaki.data.sources.glyph_pages.BLOCK", 64)
    few, many = (
        registered("glyph-pages").read(config, config.options(), None)
        for config in (DataConfig(**{**SMALL, "samples": n}) for n in (200, 300))
    )
    for split in range(3):
        a, b = ([p.columns[k].data[p.assignment == split] for k in ("x", "caption")] for p in (few, many))
        assert len(b[0]) > len(a[0])
        assert all(torch.equal(one, other[: len(one)]) for one, other in zip(a, b, strict=True))
    hashes = hash_samples(many.x)
    assert len(set(hashes)) == 300, "no block repeats another"


def test_several_characters_stand_in_the_order_of_reading(crowded: Dataset) -> None:
    places = np.stack([crowded.train.columns[k].data.numpy() for k in ("place", "place_2", "place_3")], 1)
    assert (np.diff(places, axis=1) > 0).all()
    assert set(places.ravel()) == set(range(4))
    ink = crowded.train.x.float().amax(1).unfold(1, 8, 8).unfold(2, 8, 8).mean((3, 4)).flatten(1)
    empty = ink.argmin(1).numpy()  # of the four corners
    assert ((places != empty[:, None]).all(1)).mean() > 0.99


def test_the_cache_gives_what_was_drawn(pages: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(files: object) -> None:
        raise AssertionError("drawn again although cached")

    monkeypatch.setattr("niwaki.data.sources.glyph_pages.distance_fields", refuse)
    again = load(DataConfig(**SMALL, held_out=["red+slanted", "A+bold"]))
    assert again.fingerprint == pages.fingerprint
    assert again.audit.of_kind("cache") == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"held_out": ["rad+slanted"]}, "no 'rad'; did you mean 'red'"),
        ({"held_out": ["red"]}, "'red' is no pair of two attributes"),
        ({"held_out": ["red+blue"]}, "'red\\+blue' is no pair of two attributes"),
        ({"held_out": ["sans+bold"]}, "no 'sans'"),
        ({"characters": "AÄ"}, "Ä cannot be drawn"),
        ({"characters": "AA"}, "names one twice"),
        ({"per_page": 2, "attributes": ["colour"]}, "need attributes with 'place'"),
        ({"per_page": 4}, "per_page"),
        ({"attributes": ["size"]}, "attributes"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(CallError, match=message):
        DataConfig(**SMALL, **settings)


def test_too_few_captions_are_refused() -> None:
    with pytest.raises(CallError, match="too few captions to divide"):
        load(DataConfig(**SMALL, characters="A", attributes=[]))
