"""Texts as coded files: byte for byte, whatever they hold, and what is refused before anything is written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from runtime.codec.direct_cases import Network, bytes_tokenizer, codec

from niwaki_runtime.codec import CodecError, TextCodec
from niwaki_runtime.codec.container import unpack
from niwaki_runtime.errors import CallError
from niwaki_runtime.tokenizer import Tokenizer

pytest.importorskip("constriction")

TEXTS = ["plain words", "", "naïve ü — 木\n", "\x00\t\r\n\x7f", "🌲" * 40, "a <|end|> b"]


def words_tokenizer() -> Tokenizer:
    return Tokenizer(
        json.dumps(
            {
                "model": {"type": "WordLevel", "vocab": {"plain": 0, "words": 1}},
                "pre_tokenizer": {"type": "WhitespaceSplit"},
            }
        )
    )


def texts_codec(length: int = 16) -> TextCodec:
    return TextCodec(codec(Network(257), length, bytes_tokenizer("<|end|>")))


@pytest.mark.parametrize("length", [1, 5, 16, 1000])
@pytest.mark.parametrize("block", [1, 3, 32])
def test_byte_for_byte(length: int, block: int) -> None:
    made = texts_codec(length)
    names = [f"{i}.txt" for i in range(len(TEXTS))]
    found = made.decode(made.encode(TEXTS, names=names, block=block).data)
    assert [text.decode() for text in found.texts] == TEXTS
    assert found.names == tuple(names)
    assert found.lost == ()


@pytest.mark.parametrize("seed", range(5))
def test_any_text(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [int(p) for p in rng.integers(0, 0x110000, 300) if not 0xD800 <= p < 0xE000]
    text, made = "".join(map(chr, points)), texts_codec()
    assert made.decode(made.encode([text]).data).texts == (text.encode(),)


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["a"]])
def test_little_or_nothing(texts: list[str]) -> None:
    made = texts_codec()
    assert made.decode(made.encode(texts).data).texts == tuple(text.encode() for text in texts)


@pytest.mark.parametrize("step", [97, pytest.param(1, marks=pytest.mark.slow)])
def test_every_damaged_byte_costs_one_block_at_most(step: int) -> None:
    made = texts_codec()
    texts = ["x" * 100, "wörter " * 30, "z" * 10]
    data = made.encode(texts, block=5).data  # 80 tokens of bytes
    whole = "".join(texts).encode()
    header, _ = unpack(data)
    edges = np.cumsum([12 + int.from_bytes(data[4:8], "little"), *header.sizes])
    ends = np.cumsum([len(text.encode()) for text in texts])
    for place in range(0, len(data), step):
        broken = bytearray(data)
        broken[place] ^= 0x55
        found = made.decode(bytes(broken))
        hit = int(np.searchsorted(edges, place, side="right")) - 1
        if not 0 <= hit < len(header.sizes):
            assert found.lost == ()
            assert b"".join(found.texts) == whole
            continue
        gone = range(80 * hit, min(80 * hit + 80, len(whole)))
        assert set(found.lost) == {int(np.searchsorted(ends, at, side="right")) for at in gone}
        left = b"".join(text.replace(b"\xef\xbf\xbd", b"") for text in found.texts)
        assert left == whole[: gone.start] + whole[gone.stop :]


def test_a_tokenizer_that_loses_something_is_found_before_anything_is_written() -> None:
    network = Network(2)
    made = TextCodec(codec(network, 4, words_tokenizer()))
    for text, refused in (("plain words", False), ("plain  words", True), ("plain\nwords", True)):
        network.calls = 0
        if refused:
            with pytest.raises(CallError, match="'0' back byte for byte"):
                made.encode([text])
            assert network.calls == 0
        else:
            assert made.decode(made.encode([text]).data).texts == (text.encode(),)


def test_a_model_without_a_tokenizer_codes_no_texts() -> None:
    with pytest.raises(CallError, match="tokenizer"):
        TextCodec(codec(Network(17), 4))


def test_samples_are_no_texts() -> None:
    made = codec(Network(257), 4, bytes_tokenizer("<|end|>"))
    with pytest.raises(CodecError, match="no texts"):
        TextCodec(made).decode(made.encode(np.zeros((2, 4), int)).data)


@pytest.mark.parametrize("lengths", [[10**12], [-5, 105], ["x"], [1.5e308], [], [100, 100], 3, None])
def test_lengths_that_lie(lengths: Any) -> None:
    from runtime.codec.test_hostile_files import forged

    made = texts_codec()
    with pytest.raises(CodecError):
        made.decode(forged(made.encode(["x" * 90]).data, lengths=lengths))
