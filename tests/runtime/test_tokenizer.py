"""Tokens to text and back, against the package that defines the format."""

from __future__ import annotations

import json
import sys

import pytest
import tokenizers

from niwaki.data.reading.tokens import END, byte_tokenizer, learned_tokenizer
from niwaki_runtime.errors import CallError
from niwaki_runtime.tokenizer import Tokenizer, letters

TEXTS = ["", "plain", "def f(x):\n\treturn x  # two  spaces", "grüße, 日本語 🌲\r\n", "\x01\x7f\u00ad"]


def test_a_byte_is_a_token() -> None:
    found = Tokenizer(byte_tokenizer())
    assert len(found) == 256
    for text in TEXTS:
        assert found.encode(text) == list(text.encode())
        assert found.decode(found.encode(text)) == text


def test_every_byte_has_a_letter_of_its_own() -> None:
    assert len(set(letters())) == 256
    assert all(letter.isprintable() and not letter.isspace() for letter in letters())


@pytest.mark.parametrize("vocabulary", [256, 270])
def test_the_package_reads_it_alike(vocabulary: int) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    text = byte_tokenizer()
    if vocabulary > 256:
        text = learned_tokenizer(["the cat sat on the mat, the hat on the cat. " * 20], vocabulary)
    theirs, ours = tokenizers.Tokenizer.from_str(text), Tokenizer(text)
    assert len(ours) == theirs.get_vocab_size() == vocabulary
    for one in [*TEXTS, "the cat, the hat"]:
        ids = theirs.encode(one, add_special_tokens=False).ids
        assert ours.encode(one) == ids
        assert ours.decode(ids) == theirs.decode(ids) == one


def test_the_end_is_silent_unless_asked_for() -> None:
    found = Tokenizer(byte_tokenizer())
    assert found.decode([104, END, 105]) == "hi"
    assert found.decode([104, END, 105], special=True) == "h<|endoftext|>i"


def test_broken_characters_are_marked_and_unknown_tokens_left_out() -> None:
    found = Tokenizer(byte_tokenizer())
    assert found.decode("é".encode()[:1]) == "\ufffd"
    assert found.decode([104, 9999]) == "h"


def test_tokens_of_sentencepiece() -> None:
    vocabulary = {"<s>": 0, "▁Hello": 1, "▁": 2, "<0xC3>": 3, "<0xA9>": 4, "!": 5}
    steps = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    record = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 0, "content": "<s>", **flags}],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": steps},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": True},
    }
    ids = [0, 1, 2, 3, 4, 5]
    assert Tokenizer(json.dumps(record)).decode(ids) == "Hello é!"
    tokenizers = pytest.importorskip("tokenizers")
    assert tokenizers.Tokenizer.from_str(json.dumps(record)).decode(ids) == "Hello é!"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": {"vocab": 3}}'])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(CallError, match=r"not the text of a tokenizer\.json"):
        Tokenizer(text)


def test_words_between_blanks_need_no_package(monkeypatch):
    from niwaki.data.reading.captions import word_tokenizer

    text = word_tokenizer(["bold", "serif", "letter", "A"])
    own, theirs = Tokenizer(text), tokenizers.Tokenizer.from_str(text)
    assert own.encode(" bold serif  letter A") == [1, 2, 3, 4]
    assert theirs.encode("bold serif letter A").ids == [1, 2, 3, 4]
    assert own.decode([1, 2, 3, 4, 0, 0]) == theirs.decode([1, 2, 3, 4, 0, 0]) == "bold serif letter A"
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert own.encode("A bold") == [4, 1]
    with pytest.raises(CallError, match=r"'blod' is unknown.*bold"):
        own.encode("blod letter")


@pytest.mark.parametrize("text", ["a bold, red cat!", "a  catß (bold)", "", "zebra"])
def test_words_between_marks_and_unknown_ones_need_no_package(monkeypatch, text):
    from niwaki.data.reading.captions import word_tokenizer

    written = word_tokenizer(["a", "bold", ",", "cat"], unknown=True)
    own, theirs = Tokenizer(written), tokenizers.Tokenizer.from_str(written)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert own.encode(text) == theirs.encode(text).ids
    assert own.encode("a zebra") == [2, 1]
