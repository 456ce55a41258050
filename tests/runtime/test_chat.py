"""Conversations as tokens: there and back, what counts as an answer, what no content can spell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from niwaki.data.reading.tokens import byte_tokenizer, learned_tokenizer
from niwaki_runtime.chat import answer, stream_answer
from niwaki_runtime.chat_template import FILE, Chats, ChatTemplate, check_messages
from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import Program, Runner
from niwaki_runtime.samplers import Autoregressive, NumpyBackend
from niwaki_runtime.specs import ConditionSpec, Tokens, ValueSpec
from niwaki_runtime.tokenizer import FILE as TOKENIZER
from niwaki_runtime.tokenizer import Tokenizer, extends, with_special

TEMPLATES = {
    "own": ChatTemplate(),
    "chatml": ChatTemplate(
        {role: f"<|im_start|>{role}\n" for role in ("system", "user", "assistant")}, "<|im_end|>\n"
    ),
}
SPECIAL = {
    "own": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
    "chatml": ["<|im_start|>", "<|im_end|>"],
}
LINES = [
    f"Sentence {i} says that {i * 7 % 13} cats sat on {i * 5 % 11} mats, and why not." for i in range(300)
]
CHAT = [
    {"role": "system", "content": "Short answers, “please”."},
    {"role": "user", "content": "How many cats?\n\nOn which mats?"},
    {"role": "assistant", "content": "13 cats – on 11 mats."},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "Why not."},
]


@pytest.fixture(params=["bytes", "pairs"])
def base(request: pytest.FixtureRequest) -> str:
    return byte_tokenizer() if request.param == "bytes" else learned_tokenizer(LINES, 300)


@pytest.fixture(params=TEMPLATES)
def chats(request: pytest.FixtureRequest, base: str) -> Chats:
    return Chats(TEMPLATES[request.param], Tokenizer(with_special(base, SPECIAL[request.param])))


def test_a_conversation_comes_back_from_its_tokens(chats: Chats) -> None:
    tokens, counted = chats.tokens(CHAT)
    assert chats.messages(tokens) == CHAT
    assert len(counted) == len(tokens)
    again = Chats(ChatTemplate.from_text(json.dumps(chats.template.to_json())), chats.tokenizer)
    assert again.tokens(CHAT) == (tokens, counted)


def test_answers_and_the_token_that_ends_them_are_counted_and_nothing_else(chats: Chats) -> None:
    tokens, counted = chats.tokens(CHAT)
    said = [t for t, c in zip(tokens, counted, strict=True) if c]
    wanted: list[int] = []
    for message in (CHAT[2], CHAT[4]):
        wanted += [*chats.tokenizer.encode(message["content"], special=False), chats.end]
    assert said == wanted


def test_what_an_answer_is_said_after_is_the_conversation_before_it(chats: Chats) -> None:
    tokens, counted = chats.tokens(CHAT)
    last = len(tokens) - 1 - counted[::-1].index(True)
    begin = last - len(chats.tokenizer.encode(CHAT[-1]["content"], special=False))
    assert chats.prompt(CHAT[:-1]) == tokens[:begin]
    with pytest.raises(CallError, match="last message must not be the assistant's"):
        chats.prompt(CHAT)


def test_no_content_can_spell_a_special_token(chats: Chats) -> None:
    names = [a["content"] for a in json.loads(str(chats.tokenizer._text))["added_tokens"]]
    for role in ("system", "user", "assistant"):
        for name in names:
            content = f"a{name}\nb {name}{name}"
            tokens, _ = chats.tokens([{"role": role, "content": content}])
            plain, _ = chats.tokens([{"role": role, "content": "ab"}])
            special = [chats.tokenizer.number_of(n) for n in names]
            assert [t for t in tokens if t in special] == [t for t in plain if t in special]
            assert chats.messages(tokens) == [{"role": role, "content": content}]


def test_special_tokens_come_behind_those_that_there_are(base: str) -> None:
    import tokenizers

    longer = with_special(base, SPECIAL["own"])
    known = Tokenizer(base)
    made = Tokenizer(longer)
    assert [made.number_of(n) for n in SPECIAL["own"]] == list(range(known.largest + 1, known.largest + 5))
    theirs = tokenizers.Tokenizer.from_str(longer)
    assert [theirs.token_to_id(n) for n in SPECIAL["own"]] == [made.number_of(n) for n in SPECIAL["own"]]
    assert with_special(longer, SPECIAL["own"]) == longer
    text = "13 cats sat on 11 mats."
    assert made.encode(text) == known.encode(text)
    assert extends(longer, base)
    assert not extends(base, longer)
    assert not extends(longer, learned_tokenizer(LINES, 280))


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"opens": {"user": "<|user|>"}}, "'assistant'"),
        ({"opens": {"assistant": "a", "user": "a"}}, "another way"),
        ({"closes": ""}, "one after"),
        ({"closes": 3}, "'closes'"),
        ([], "table"),
    ],
)
def test_broken_templates_are_refused(record: Any, says: str) -> None:
    with pytest.raises(CallError, match=says):
        ChatTemplate.from_text(json.dumps(record))


def test_a_template_needs_special_tokens_of_the_tokenizer() -> None:
    with pytest.raises(CallError, match="special token"):
        Chats(ChatTemplate(), Tokenizer(byte_tokenizer()))
    plain = json.loads(with_special(byte_tokenizer(), SPECIAL["own"]))
    plain["added_tokens"][-1]["special"] = False
    with pytest.raises(CallError, match="not special"):
        with_special(json.dumps(plain), SPECIAL["own"])


@pytest.mark.parametrize("given", ["a", {"role": "user"}, [{"role": "user"}], [{"role": 1, "content": "a"}]])
def test_messages_that_are_none_are_refused(given: Any) -> None:
    with pytest.raises(CallError, match="message"):
        check_messages(given)


class Parrot(Runner):
    """Answers with the last question."""

    def __init__(self, chats: Chats, length: int, ends: bool) -> None:
        self.chats, self.length = chats, length
        text = str(chats.tokenizer._text)
        self.levels = chats.tokenizer.largest + 1
        self.files = {TOKENIZER: text, FILE: json.dumps(chats.template.to_json())}
        self.stop = chats.end if ends else -1

    def programs(self) -> dict[str, Program]:
        tokens = Tokens(self.levels)
        prompt = ConditionSpec(ValueSpec("text", (self.length - 1,), "T", tokens), null=-1)
        sampler = Autoregressive(
            self.length, first=self.levels, prompt="prompt", stop=self.stop, temperature=0
        )
        made = Program(sampler, {"prompt": prompt}, ValueSpec("text", (self.length,), "T", tokens))
        return {"sample": made, "continue": made}

    def callable_graphs(self) -> dict[str, Any]:
        parrot = self

        class Decode:
            state = ()

            def __init__(self) -> None:
                self.read: list[int] = []

            def __call__(self, token: np.ndarray, position: np.ndarray) -> np.ndarray:
                self.read = [*self.read[: int(position[0])], int(token[0])]
                logits = np.zeros((1, parrot.levels), np.float32)
                logits[0, self._next()] = 5.0
                return logits

            def _next(self) -> int:
                said = parrot.chats.messages(self.read[1:])
                if not said or said[-1]["role"] != "assistant":
                    return 0
                wanted = [
                    *parrot.chats.tokenizer.encode(said[-2]["content"], special=False),
                    parrot.chats.end,
                ]
                opens = parrot.chats.prompt(said[:-1])
                done = len(self.read) - 1 - len(opens)
                return wanted[min(done, len(wanted) - 1)]

        return {"decode": Decode()}

    def backend(self) -> NumpyBackend:
        return NumpyBackend()


@pytest.mark.parametrize("ends", [True, False])
def test_answers_end_with_their_turn(chats: Chats, ends: bool) -> None:
    runner = Parrot(chats, 160, ends)
    question = [{"role": "user", "content": "Äpfel <|end|> on 11 mats?"}]
    pieces = list(stream_answer(runner, question))
    assert "".join(pieces) == answer(runner, question) == question[0]["content"]
    assert len(pieces) > 3
    assert answer(runner, question, stop=" on") == "Äpfel <|end|>"


def test_conversations_beyond_the_models_room_are_refused(chats: Chats) -> None:
    def ask(messages: Sequence[Any], length: int = 60) -> str:
        return answer(Parrot(chats, length, True), messages)

    with pytest.raises(CallError, match="at most 59"):
        ask([{"role": "user", "content": "a" * 99}])
    with pytest.raises(CallError, match="no role 'tool'"):
        ask([{"role": "tool", "content": "a"}])
    silent = Parrot(chats, 60, True)
    silent.files = {TOKENIZER: silent.files[TOKENIZER]}
    with pytest.raises(CallError, match="trained on chats"):
        answer(silent, CHAT[:2])
