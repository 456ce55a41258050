"""Expressions as automata over bytes, against `re` itself."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.steering.automaton import DEAD, Automaton, compiled
from niwaki_runtime.steering.characters import byte_ranges, spans
from niwaki_runtime.steering.expressions import parse

EXPRESSIONS = [
    "", "a", "ab|b", "(a|b)*", "a+b?", "a{2}", "a{1,2}b", "a{,2}", "a{2,}", "(?:ab){1,2}a", "[ab]c", "[^a]",
    ".", ".*b", "a*?b", "(?P<x>a|bc)+", "a|", "(|a)b", "[]a]", "[^]a]+", r"\.", r"a\|b", "a{x", "a{}",
    "a{1,x}", r"\x61b", r"\141", "((a|b)(c|)){2}", "[a-c]{0,3}", r"[\w]", r"\d|a", r"\Wb?", r"[^\n]*", "{a",
    "é|a", r"\u00e9?b", "(a*)*", "(a|a)*b", "(a?){3}",
]  # fmt: skip
ALPHABET = "abc.é{\n]|x"


def accepts(automaton: Automaton, text: bytes) -> bool:
    state = automaton.start
    for byte in text:
        state = int(automaton.table[state, byte])
    return bool(automaton.accept[state])


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_texts_are_those_of_re(expression: str) -> None:
    automaton = compiled(parse(expression))
    for size in range(5):
        for letters in itertools.product(ALPHABET, repeat=size):
            text = "".join(letters)
            assert accepts(automaton, text.encode()) == bool(re.fullmatch(expression, text)), text


@pytest.mark.parametrize(
    "atom", [r"\w", r"\d", r"\s", r"\W", r"\D", r"\S", ".", "[^a-z]", "[α-ω🌲]", "[^\ud7ff]"]
)
def test_every_character_is_in_a_class_as_re_says(atom: str) -> None:
    automaton, wanted = compiled(parse(atom)), re.compile(atom)
    rng = np.random.default_rng(0)
    some = [*range(0x300), 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]
    for number in [*some, *rng.integers(0x300, 0x110000, 3000).tolist()]:
        if not 0xD800 <= number <= 0xDFFF:
            assert accepts(automaton, chr(number).encode()) == bool(wanted.fullmatch(chr(number))), number


def test_what_is_accepted_is_utf8() -> None:
    """No way through the automaton of any character leads to bytes that are none."""
    automaton = compiled(parse(r"[\s\S]"))
    rng = np.random.default_rng(1)
    for _ in range(2000):
        state, text = automaton.start, bytearray()
        while not automaton.accept[state]:
            byte = int(rng.choice(np.flatnonzero(automaton.table[state] != DEAD)))
            text.append(byte)
            state = int(automaton.table[state, byte])
        assert len(text.decode()) == 1


def test_ranges_of_characters_are_ranges_of_bytes() -> None:
    rng = np.random.default_rng(2)
    edges = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF, 0xD7FF, 0xE000]
    for _ in range(200):
        first, last = sorted(int(v) for v in rng.choice([*edges, *rng.integers(0, 0x3000, 20)], 2))
        if first <= 0xDFFF and last >= 0xD800:
            continue
        rows = list(byte_ranges(first, last))
        count = sum(int(np.prod([high - low + 1 for low, high in row])) for row in rows)
        assert count == last - first + 1
        for number in {first, last, (first + last) // 2}:
            text = chr(number).encode()
            inside = [
                row
                for row in rows
                if len(row) == len(text)
                and all(low <= b <= high for (low, high), b in zip(row, text, strict=True))
            ]
            assert len(inside) == 1


def test_a_class_is_asked_once() -> None:
    assert spans(r"\d")[0] == (ord("0"), ord("9"))
    assert spans("a") == ((97, 97),)
    assert spans(r"\ ") == ((32, 32),)


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("^a", r"\^"), ("a$", r"\$"), (r"a\b", "place"), (r"\Aa", "place"), ("(?=a)", "does not say"),
        ("(?i:a)", "does not say"), (r"(a)\1", "does not say"), ("a++", "possessive"),
        ("(", "no regular expression"), ("[b-a]", "no regular expression"),
        ("(?P<x>a)(?P=x)", "does not say"),
        ("((((a{100}){100}){100}))", "too large"), ("(a|b)*a(a|b){16}", "too many states"),
        ("(" * 5000 + ")" * 5000, "deep"),
    ],
)  # fmt: skip
def test_what_is_not_of_texts_is_refused_in_a_sentence(expression: str, named: str) -> None:
    with pytest.raises(CallError, match=named) as refused:
        compiled(parse(expression))
    assert "\n" not in str(refused.value)


def test_nothing_may_be_repeated_however_often() -> None:
    """`re` itself runs out of memory here."""
    automaton = compiled(parse("(){999999999}a"))
    assert accepts(automaton, b"a")
    assert not accepts(automaton, b"aa")
