"""Decoding is that of the package `tokenizers`: random vocabularies, decoders and tokens, piece by piece."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import tokenizers

from niwaki.data.reading.tokens import byte_tokenizer
from niwaki_runtime.errors import CallError
from niwaki_runtime.tokenizer import Tokenizer, letters

ALPHABET = [
    "▁",
    " ",
    "a",
    "b",
    "é",
    "林",
    "'",
    "n't",
    " .",
    "##",
    "</w>",
    "<pad>",
    "|",
    *letters()[:8],
    letters()[195],
]
BYTES = [f"<0x{b:02X}>" for b in (0x41, 0xC3, 0xA9, 0xE6, 0x9E, 0x97, 0xF0, 0xFF, 0x0A)]


def byte_level() -> Any:
    return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def replaced(old: str, new: str) -> Any:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def stripped(letter: str, start: int, stop: int) -> Any:
    return {"type": "Strip", "content": letter, "start": start, "stop": stop}


def sequence(*parts: Any) -> Any:
    return {"type": "Sequence", "decoders": list(parts)}


FUSE, FALLBACK = {"type": "Fuse"}, {"type": "ByteFallback"}
DECODERS: dict[str, Any] = {
    "none": None,
    "ByteLevel": byte_level(),
    "ByteFallback": FALLBACK,
    "Fuse": FUSE,
    "Replace": replaced("▁", " "),
    "Strip": sequence(stripped("b", 0, 1), stripped("a", 2, 0)),  # an empty end: panic
    "Metaspace, always": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    "Metaspace, first": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
    "Metaspace, never": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True},
    "WordPiece": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "WordPiece, as it is": {"type": "WordPiece", "prefix": "##", "cleanup": False},
    "BPEDecoder": {"type": "BPEDecoder", "suffix": "</w>"},
    "CTC": {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True},
    "CTC, as it is": {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": False},
    "Llama 2": sequence(replaced("▁", " "), FALLBACK, FUSE, stripped(" ", 1, 0)),
    "Gemma": sequence(replaced("▁", " "), FALLBACK, FUSE),
    "bytes, then stripped": sequence(byte_level(), stripped(" ", 2, 0)),
    "words, then bytes": sequence({"type": "WordPiece", "prefix": "##", "cleanup": True}, FALLBACK),
    "a sequence in a sequence": sequence(sequence(replaced("a", "▁"), FUSE), replaced("▁▁", "x")),
    "nothing in sequence": sequence(),
}
MODELS = ("BPE", "Unigram", "WordLevel", "WordPiece")


def record(kind: str, decoder: Any, pieces: list[str], added: list[dict[str, Any]]) -> str:
    vocabulary: Any = {piece: i for i, piece in enumerate(pieces)}
    model: dict[str, Any] = {"type": kind, "vocab": vocabulary}
    if kind == "BPE":
        model |= {"merges": [], "byte_fallback": False}
    elif kind == "Unigram":
        model |= {"vocab": [[piece, -float(i)] for i, piece in enumerate(pieces)], "unk_id": 0}
    elif kind == "WordPiece":
        model |= {"unk_token": pieces[0], "continuing_subword_prefix": "##", "max_input_chars_per_word": 99}
    else:
        model |= {"unk_token": pieces[0]}
    parts = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor"))
    return json.dumps({"version": "1.0", **parts, "added_tokens": added, "decoder": decoder, "model": model})


def random_pieces(rng: random.Random) -> list[str]:
    made = {"".join(rng.choices(ALPHABET, k=rng.randint(1, 4))) for _ in range(24)}
    return [*sorted(made - set(BYTES)), *BYTES]


def random_additions(rng: random.Random, pieces: list[str]) -> list[dict[str, Any]]:
    """Some beyond the vocabulary, one that is in it; special and plain."""
    contents = [*dict.fromkeys([pieces[3], "<s>", "▁▁x", "[MASK]", "café", "<0x42>"])]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    numbers = {p: i for i, p in enumerate(pieces)}
    made, at = [], len(pieces)
    for content in contents:
        number = numbers.get(content, at)
        at += number == at
        made.append({"id": number, "content": content, "special": rng.random() < 0.5, **flags})
    return made


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("kind", MODELS)
def test_random_tokens_are_decoded_as_the_package_decodes_them(kind: str, name: str) -> None:
    rng = random.Random(f"{kind} {name}")
    for _ in range(6):
        pieces = random_pieces(rng)
        added = random_additions(rng, pieces)
        text = record(kind, DECODERS[name], pieces, added)
        theirs, ours = tokenizers.Tokenizer.from_str(text), Tokenizer(text)
        assert len(ours) == theirs.get_vocab_size()
        for _ in range(40):
            ids = rng.choices(range(len(pieces) + len(added) + 2), k=rng.randint(0, 9))
            for special in (False, True):
                wanted = theirs.decode(ids, skip_special_tokens=not special)
                assert ours.decode(ids, special=special) == wanted, (ids, text)


@pytest.mark.parametrize("name", ["ByteLevel", "Gemma"])
def test_a_text_in_two_halves_is_the_text(name: str) -> None:
    pieces = [*"ab▁", *(letters()[b] for b in "é林 ".encode()), *BYTES]
    ours = Tokenizer(record("BPE", DECODERS[name], list(dict.fromkeys(pieces)), []))
    ids = [2, 0, 2, 1] if name == "Gemma" else [0, 3, 4, 5, 6, 7, 8, 1]
    for at in range(len(ids)):
        assert ours.to_bytes(ids[:at]) + ours.to_bytes(ids[at:]) == ours.to_bytes(ids)
    assert ours.to_bytes(ids).decode() == ours.decode(ids)


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("flag", ["", "lstrip", "rstrip", "single_word"])
def test_bytes_with_additions_are_cut_as_the_package_cuts_them(
    prefix: bool, normalized: bool, flag: str
) -> None:
    rng = random.Random(0)
    made = json.loads(byte_tokenizer())
    made["pre_tokenizer"]["add_prefix_space"] = prefix
    shared = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": normalized,
        "special": False,
    }
    for i, content in enumerate(["<a>", "<a><b>", "café", "b>"]):
        made["added_tokens"].append(
            {"id": 256 + i, "content": content, **shared, **({flag: True} if flag else {})}
        )
    text = json.dumps(made)
    theirs, ours = tokenizers.Tokenizer.from_str(text), Tokenizer(text)
    for _ in range(60):
        one = "".join(rng.choices(["<a>", "<b>", "b>", "café", " ", "x", "林", "\n", "<|endoftext|>"], k=7))
        ids = theirs.encode(one, add_special_tokens=False).ids
        assert ours.encode(one) == ids, one
        assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize(
    ("decoder", "text"),
    [
        ({"type": "Prepend", "prepend": "▁"}, "no decoder 'Prepend'"),
        ({"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}, "Replace.*plain text"),
        ({"type": "Strip", "content": "ab", "start": 1, "stop": 0}, "Strip.*content"),
        ({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "sometimes"}, "Metaspace.*sometimes"),
        ({"type": "WordPiece", "prefix": 3, "cleanup": True}, "WordPiece.*prefix must be a text"),
        ({"type": "Strip", "content": "a"}, "Strip.*start"),
        (sequence(FUSE, {"type": "Guess"}), "no decoder 'Guess'"),
        ({"type": "Sequence"}, "lists no decoders"),
        ([], "no record but a list"),
    ],
)
def test_what_is_not_covered_is_refused_when_it_is_read(decoder: Any, text: str) -> None:
    with pytest.raises(CallError, match=text):
        Tokenizer(record("BPE", decoder, ["a", "b"], []))


def test_a_vocabulary_of_an_unknown_kind_is_refused() -> None:
    made = json.loads(byte_tokenizer())
    made["model"]["type"] = "Trie"
    with pytest.raises(CallError, match="no vocabulary of the kind 'Trie'"):
        Tokenizer(json.dumps(made))
