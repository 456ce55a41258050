"""Characters as bytes: which ones an atom of an expression means, and how UTF-8 writes ranges of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import cache

__all__ = ["Bytes", "Span", "byte_ranges", "spans"]

Span = tuple[int, int]
"""Characters from … to, both included, by their numbers."""
Bytes = tuple[tuple[int, int], ...]
"""One byte after another, each from … to."""

_SURROGATES = 0xD800, 0xDFFF  # numbers that are no characters
_LAST_OF_LENGTH = 0x7F, 0x7FF, 0xFFFF, 0x10FFFF


@cache
def spans(atom: str) -> tuple[Span, ...]:
    """The characters that `re` matches an atom with: a class, an escape, a dot."""
    plain = atom[-1] if atom in (atom[-1], re.escape(atom[-1])) and atom != "." else ""
    if plain and not _SURROGATES[0] <= ord(plain) <= _SURROGATES[1]:
        return ((ord(plain), ord(plain)),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = re.finditer(f"(?:{atom})+", _every_character())
    return tuple((ord(m.group()[0]), ord(m.group()[-1])) for run in found for m in _whole(run))


def _whole(run: re.Match[str]) -> Iterator[re.Match[str]]:
    """A run without the gap that surrogates leave."""
    before = re.match(r"[\0-\ud7ff]+", run.group())
    if before:
        yield before
    after = re.search(r"[\ue000-\U0010ffff]+", run.group())
    if after:
        yield after


@cache
def _every_character() -> str:
    first, last = _SURROGATES
    return "".join(map(chr, [*range(first), *range(last + 1, 0x110000)]))


def byte_ranges(first: int, last: int) -> Iterator[Bytes]:
    """Ranges of bytes, one after another, that together write just the characters first … last."""
    for most in _LAST_OF_LENGTH:
        if first <= most < last:
            yield from byte_ranges(first, most)
            first = most + 1
    low, high = chr(first).encode(), chr(last).encode()
    for place in range(1, len(low)):
        size = 1 << 6 * place  # characters that share all but the last bytes
        if first // size != last // size:
            if first % size:
                middle = (first // size + 1) * size
                yield from byte_ranges(first, middle - 1)
                yield from byte_ranges(middle, last)
                return
            if last % size != size - 1:
                middle = last // size * size
                yield from byte_ranges(first, middle - 1)
                yield from byte_ranges(middle, last)
                return
    yield tuple(zip(low, high, strict=True))
