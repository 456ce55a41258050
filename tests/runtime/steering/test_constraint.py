"""Constrained texts: always whole, in time, and with the probabilities of the tokens that may come."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from runtime.random_texts import RandomTexts, pieces_tokenizer

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import Noise, NumpyBackend
from niwaki_runtime.samplers.tokens import softmax
from niwaki_runtime.steering import Constraint
from niwaki_runtime.steering.automaton import compiled
from niwaki_runtime.steering.expressions import parse
from niwaki_runtime.steering.vocabulary import vocabulary_of
from niwaki_runtime.tokenizer import Tokenizer

BYTES = [bytes([b]) for b in range(256)]
LONGER = ["ab", "bab", "12", "3.", "é", "日本", ", ", "yes", "no,", "es", "🌲a", "\n\n"]
EXPRESSIONS = [
    "(yes|no), [0-9]+", "[ab]{3,9}", "(ab|ba)*b", r"\w+@\w+\.(com|org)", "[^a]{2}", "日本.{1,3}", "a?b?c?",
    "", r"\d{4}-\d{2}-\d{2}", "(a|bab)+(12)?", r"-?\d+\.\d+", "[🌲-🌴]{2,}",
]  # fmt: skip
LENGTH = 14


def model(
    length: int = LENGTH, seed: int = 0, pieces: Any = (*BYTES, *LONGER), **sampler: Any
) -> RandomTexts:
    return RandomTexts(pieces_tokenizer(pieces, ["<end>"]), len(pieces) + 1, length, seed=seed, **sampler)


def texts(made: np.ndarray, of: RandomTexts) -> list[bytes]:
    tokenizer = Tokenizer(of.files["tokenizer.json"])
    return [tokenizer.to_bytes(row) for row in made]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("ends", [False, True])
def test_every_text_matches(expression: str, ends: bool) -> None:
    for seed in range(4):
        made = model(seed=seed, stop=268 if ends else -1)
        for text in texts(made.sample(10, seed=seed, regex=expression, batch=4), made):
            assert re.fullmatch(expression, text.decode()), text


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.1}, {"penalty": 3.0}])
def test_every_choice_of_tokens_keeps_to_it(expression: str, options: dict[str, Any]) -> None:
    made = model(seed=7)
    for text in texts(made.sample(4, regex=expression, **options), made):
        assert re.fullmatch(expression, text.decode()), text


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_shortest_length_is_enough_and_one_less_is_refused(expression: str) -> None:
    """At the least number of tokens there is room for nothing but the shortest texts."""
    made = model()
    steer = Constraint(compiled(parse(expression)), vocabulary_of(made.files["tokenizer.json"]), "it")
    need = next(k for k in range(LENGTH) if _suffices(steer, k))
    if need:
        with pytest.raises(CallError, match=f"at least {need} tokens"):
            steer.begin([], need - 1)
        short = model(length=need)
        for text in texts(short.sample(20, regex=expression), short):
            assert re.fullmatch(expression, text.decode())


def _suffices(steer: Constraint, left: int) -> bool:
    try:
        steer.begin([], left)
    except CallError:
        return False
    return True


@pytest.mark.parametrize("expression", ["(ab|ba)*b", "a?b?c?", "[ab]{3,4}", "(a|bab)+c", "a*"])
@pytest.mark.parametrize("length", [3, 4, 5])
@pytest.mark.parametrize("ends", [False, True])
def test_a_token_may_come_just_where_the_text_can_still_end(expression: str, length: int, ends: bool) -> None:
    """Against all token sequences: masks, and the text's own distribution renormalised step by step."""
    pieces = ["a", "b", "c", "ab", "ba"]
    small = model(length, pieces=pieces, stop=5 if ends else -1)
    steer = Constraint(compiled(parse(expression)), vocabulary_of(small.files["tokenizer.json"]), "it")
    whole = set[tuple[int, ...]]()
    for size in range(length + 1):
        for row in itertools.product(range(5), repeat=size):
            if re.fullmatch(expression, "".join(pieces[t] for t in row)):
                whole.add(row)
    prefixes = {row[:k] for row in whole for k in range(len(row) + 1)}
    for prefix in prefixes:
        state = steer.begin([], length)
        for token in prefix:
            state = steer.advance(state, token)
        wanted = [(*prefix, t) in prefixes for t in range(5)]
        assert steer.allow(state, length - len(prefix)).tolist() == [*wanted, False]
        assert steer.final(state) == (prefix in whole)
        assert steer.ended(state, length - len(prefix)) == (not any(wanted))


def test_probabilities_are_those_of_the_model_among_what_may_come() -> None:
    """A sample is the inverse of the renormalised distribution at the same uniform number."""
    pieces, expression = ["a", "b", "c", "ab"], "(a|b|c)*c(ab)?b*"
    small = model(6, pieces=pieces, stop=4)
    vocabulary = vocabulary_of(small.files["tokenizer.json"])
    steer = Constraint(compiled(parse(expression)), vocabulary, "it")
    made = small.sample(60, regex=expression)
    noise = Noise(NumpyBackend(), 0, 0, 60)
    for i, row in enumerate(made.tolist()):
        state = steer.begin([], 6)
        for at, token in enumerate(row):
            if steer.ended(state, 6 - at):
                assert row[at:] == [-1] * (6 - at)
                break
            may = steer.allow(state, 6 - at).copy()
            may[4] = steer.final(state)
            p = softmax(small.graph.logits([5, *row[:at]])[None].astype(np.float64))[0]
            p = np.where(may, p, 0) / p[may].sum()
            u = noise.uniform(draw=at)[i, 0]
            assert token == min(int((np.cumsum(p) < u).sum()), 4)
            if token == 4:
                assert row[at:] == [4] * (6 - at)
                break
            state = steer.advance(state, token)


def test_a_prompt_is_no_part_of_it_and_its_room_counts() -> None:
    made = model()
    tokenizer = Tokenizer(made.files["tokenizer.json"])
    rows = [tokenizer.encode("answer: "), tokenizer.encode("é"), []]
    prompt = np.array([row + [-1] * (LENGTH - 1 - len(row)) for row in rows])
    for text, row in zip(
        texts(made.run("continue", 3, inputs={"prompt": prompt}, regex="[ab]{2,5}c"), made), rows, strict=True
    ):
        assert re.fullmatch("[ab]{2,5}c", text[len(bytes(row)) :].decode())
    with pytest.raises(CallError, match="room for 1;"):
        made.run("continue", 1, inputs={"prompt": [97] * 13}, regex="[ab]{2,5}c")


def test_a_blank_between_pieces_is_part_of_the_text() -> None:
    """Words are joined by blanks: which bytes a token adds depends on whether it is the first."""
    words = ["one", "two", "three"]
    record = '{"model": {"type": "WordLevel", "vocab": {"one": 0, "two": 1, "three": 2}}}'
    made = RandomTexts(record, 3, 7)
    tokenizer = Tokenizer(record)
    found = {tokenizer.decode(row) for row in made.sample(40, regex="one( two| three){1,3}")}
    assert all(re.fullmatch("one( two| three){1,3}", text) for text in found)
    assert len(found) > 4
    assert all(word in words for text in found for word in text.split())


def test_what_no_token_can_say_is_refused() -> None:
    with pytest.raises(CallError, match="no text of this model's tokens"):
        model(pieces=["a", "b"]).sample(1, regex="[ab]*c")
    with pytest.raises(CallError, match="is a text"):
        model().sample(1, regex=3)
    with pytest.raises(CallError, match="one way at a time, not by regex and stop"):
        model().sample(1, regex="a", stop="b")
    steered = model(pieces=["a", "b", "bc"])  # `b` alone would lead nowhere: it never comes
    assert {t[-2:] for t in texts(steered.sample(20, regex="a*bc"), steered)} == {b"bc"}


def test_a_sample_does_not_depend_on_its_batch() -> None:
    made = model(stop=268)
    np.testing.assert_array_equal(
        made.sample(9, regex=r"\w+@\w+", seed=2, batch=2), made.sample(9, regex=r"\w+@\w+", seed=2)
    )
