"""Stop strings: the text is that of the same seed, cut before the string that is complete first."""

from __future__ import annotations

import pytest
from runtime.random_texts import RandomTexts, pieces_tokenizer

from niwaki_runtime.errors import CallError
from niwaki_runtime.tokenizer import Tokenizer

PIECES = ["a", "b", "c", "ab", "bca", "cab", "cc", "aé", b"\xc3", b"\xa9", "bb", "\n"]
STOPS = [["ab"], ["ca", "bb"], ["cab", "b"], ["é"], ["\n", "cc", "abc"], ["never"], ["aé", "éc"]]
N, LENGTH = 30, 24


def cut(text: bytes, stops: list[str]) -> bytes:
    """The same, slowly: the first end of a string, of those that end there the longest."""
    for end in range(1, len(text) + 1):
        here = [len(s.encode()) for s in stops if text[:end].endswith(s.encode())]
        if here:
            return text[: end - max(here)]
    return text


@pytest.mark.parametrize("stops", STOPS, ids="|".join)
@pytest.mark.parametrize("seed", range(3))
def test_the_text_ends_before_the_string(stops: list[str], seed: int) -> None:
    model = RandomTexts(pieces_tokenizer(PIECES), len(PIECES), LENGTH, seed=seed)
    tokenizer = Tokenizer(model.files["tokenizer.json"])
    free = [tokenizer.to_bytes(row) for row in model.sample(N, seed=seed)]
    for row, text in zip(model.sample(N, seed=seed, stop=stops, batch=7), free, strict=True):
        made, wanted = tokenizer.to_bytes(row), cut(text, stops)
        full = -1 not in row  # no room to spell what the last token begins with
        assert made == (wanted[: len(made)] if full else wanted)
        assert len(wanted) - len(made) <= 2


def test_a_string_across_tokens_and_inside_one() -> None:
    model = RandomTexts(pieces_tokenizer(["x", "yz", "zy", "y", "z"]), 5, 40)
    tokenizer = Tokenizer(model.files["tokenizer.json"])
    for row, free in zip(model.sample(40, stop="zz"), model.sample(40), strict=True):
        assert tokenizer.decode(row) == tokenizer.decode(free).partition("zz")[0]


def test_only_what_is_made_ends_it() -> None:
    model = RandomTexts(pieces_tokenizer(["a", "b", "c"]), 3, 20)
    tokenizer = Tokenizer(model.files["tokenizer.json"])
    prompt = tokenizer.encode("cbaab") + [-1] * 14
    asked = {"inputs": {"prompt": prompt}, "seed": 1}
    for row, free in zip(
        model.run("continue", 20, stop=["ba"], **asked), model.run("continue", 20, **asked), strict=True
    ):
        whole = tokenizer.decode(free)
        assert tokenizer.decode(row) == "cbaab" + whole[5:].partition("ba")[0]


def test_work_ends_with_the_last_sample() -> None:
    model = RandomTexts(pieces_tokenizer(["a", "b"]), 2, 60)
    model.sample(3, stop=["a", "b"])
    assert model.graph.calls + model.read.calls == 1


def test_after_the_end_stands_no_token() -> None:
    model = RandomTexts(pieces_tokenizer(["a", "b"]), 2, 60)
    for row in model.sample(9, stop=["aa"]).tolist():
        assert row == [t for t in row if t >= 0] + [-1] * row.count(-1)


def test_a_number_is_a_token_as_ever() -> None:
    model = RandomTexts(pieces_tokenizer(["a", "b", "c"]), 3, 20)
    assert (model.sample(5, stop=1) == model.sample(5, stop=1, batch=2)).all()
    assert -1 not in model.sample(5, stop=1)


@pytest.mark.parametrize("wrong", [[""], "", []])
def test_empty_strings_are_refused(wrong: object) -> None:
    with pytest.raises(CallError, match="must not be empty"):
        RandomTexts(pieces_tokenizer(["a"]), 1, 5).sample(1, stop=wrong)


def test_without_a_tokenizer_it_is_refused() -> None:
    model = RandomTexts(pieces_tokenizer(["a"]), 1, 5)
    model.files = {}
    with pytest.raises(CallError, match="tokenizer"):
        model.sample(1, stop="a")
