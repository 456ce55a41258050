"""Streamed texts: piece by piece they are the text of the same seed made at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from runtime.random_texts import RandomTexts, pieces_tokenizer

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import OneShot
from niwaki_runtime.tokenizer import Tokenizer

BYTES = [bytes([b]) for b in "aé日🌲\n".encode()]  # most characters need several tokens
PIECES = [*BYTES, "ab", "é", b"\xff", "日🌲", b"\xf0\x9f", "stop"]
OPTIONS: list[dict[str, Any]] = [
    {}, {"stop": 3}, {"stop": ["é"]}, {"stop": ["日🌲a", "ab", "\n\n"]}, {"regex": "(日|🌲|é|ab)+"},
    {"temperature": 0.0}, {"penalty": 2.0, "top_k": 5}, {"schema": {"type": "null"}}, {"stop": "stop"},
]  # fmt: skip


def model(seed: int = 0, pieces: Any = PIECES, **sampler: Any) -> RandomTexts:
    return RandomTexts(pieces_tokenizer([*pieces, "null"]), len(pieces) + 1, 30, seed=seed, **sampler)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_pieces_joined_are_the_sample(options: dict[str, Any], seed: int) -> None:
    made = model(seed)
    tokenizer = Tokenizer(made.files["tokenizer.json"])
    whole = made.sample(12, seed=seed, **options)
    for i, row in enumerate(whole):
        stream = made.stream(seed=seed, start=i, **options)
        assert stream.tokens is None
        pieces = list(stream)
        assert "".join(pieces) == tokenizer.decode(row)
        assert all(pieces)
        assert stream.tokens is not None
        np.testing.assert_array_equal(stream.tokens, row)
        assert list(stream) == []


def test_a_piece_comes_with_its_token() -> None:
    """Nothing is held back but what may change: of single letters each comes at once."""
    made = model(pieces=["a", "b", "c"])
    stream = made.stream()
    for calls in range(1, 31):
        next(stream)
        assert made.graph.calls + made.read.calls == calls


def test_a_prompt_comes_first() -> None:
    made = model()
    prompt = [Tokenizer(made.files["tokenizer.json"]).encode("aé日")]
    padded = np.array([prompt[0] + [-1] * (29 - len(prompt[0]))])
    stream = made.stream("continue", inputs={"prompt": padded}, seed=4)
    assert next(stream) == "aé日"
    whole = made.run("continue", 1, inputs={"prompt": padded}, seed=4)
    assert "aé日" + "".join(stream) == Tokenizer(made.files["tokenizer.json"]).decode(whole[0])


def test_bytes_that_are_read_together_come_together() -> None:
    """Where one of a run of byte tokens is no text, all of them become �: none may have come before."""
    record = (
        '{"model": {"type": "BPE", "vocab": {"a": 0, "<0x62>": 1, "<0xC3>": 2, "<0xA9>": 3}, "merges": []},'
        '"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}}'
    )
    made = RandomTexts(record, 4, 20)
    for i, row in enumerate(made.sample(20)):
        assert "".join(made.stream(start=i)) == Tokenizer(record).decode(row)


def test_what_is_no_text_is_refused() -> None:
    made = model()
    with pytest.raises(CallError, match="no option 'colour'"):
        made.stream(colour=1)
    made.files = {}
    with pytest.raises(CallError, match="ships its tokenizer"):
        made.stream()
    with pytest.raises(CallError, match="nothing grows"):
        OneShot((1,)).growing({}, None, {})  # type: ignore[arg-type]
