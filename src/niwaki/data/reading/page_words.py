"""What stands on a glyph page in words: the attributes of a character, and the grammar of captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "ATTRIBUTES",
    "CHARACTER",
    "COLOURS",
    "CORNERS",
    "describe",
    "longest",
    "page_caption",
    "vocabulary",
]

CHARACTER = "character"
COLOURS: dict[str, tuple[float, float, float]] = {
    "white": (1.0, 1.0, 1.0),
    "red": (1.0, 0.15, 0.15),
    "green": (0.15, 0.85, 0.2),
    "blue": (0.25, 0.4, 1.0),
    "yellow": (1.0, 0.9, 0.1),
    "purple": (0.75, 0.25, 0.9),
}
"""Red, green and blue, 0 … 1, of every colour."""
CORNERS = ("top left", "top right", "bottom left", "bottom right")  # in the order of reading
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "weight": ("regular", "bold"),
    "slant": ("upright", "slanted"),
    "typeface": ("sans", "serif"),
    "colour": tuple(COLOURS),
    "place": ("middle", *CORNERS),
}
"""What a character on a page has, and the values of each; the first is that of one who has no say in it."""
_UNSAID = frozenset({"regular", "upright"})
_VOWELS = frozenset("AEFHILMNORSXaefhilmnorsx8")  # characters whose names begin with one


def describe(values: Mapping[str, str]) -> str:
    """One character in words.

    values: its `character`, and those of `ATTRIBUTES` that are told

    >>> describe({"character": "A", "weight": "bold", "colour": "red", "place": "top left"})
    'a bold red A at the top left'
    >>> describe({"character": "7", "weight": "regular", "slant": "slanted", "place": "middle"})
    'a slanted 7 in the middle'
    """
    told = [values[name] for name in ATTRIBUTES if name in values and name != "place"]
    words = [*(word for word in told if word not in _UNSAID), values[CHARACTER]]
    article = "an" if len(words) == 1 and words[0] in _VOWELS else "a"
    place = values.get("place")
    where = () if place is None else ("in the middle" if place == "middle" else f"at the {place}",)
    return " ".join((article, *words, *where))


def page_caption(characters: Iterable[Mapping[str, str]]) -> str:
    """All characters of a page in words, as `describe` says each."""
    return " and ".join(map(describe, characters))


def vocabulary(characters: str, told: Sequence[str]) -> list[str]:
    """Every word that a caption may hold, each once; told: the attributes that captions tell."""
    values = [word for name in told for value in ATTRIBUTES[name] for word in value.split()]
    return list(
        dict.fromkeys(
            ("a", "an", "and", "at", "in", "the", *(v for v in values if v not in _UNSAID), *characters)
        )
    )


def longest(per_page: int, told: Sequence[str]) -> int:
    """Words in the longest caption of `per_page` characters."""
    last = {name: ATTRIBUTES[name][-1] for name in told}
    return len(page_caption([{CHARACTER: "A", **last}] * per_page).split())
