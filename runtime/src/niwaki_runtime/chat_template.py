"""Conversations as tokens: who speaks is said by special tokens, which no content can spell.

A template is plain data and no program: what stands before a turn of each role, and what stands after every
turn. ChatML is `{"opens": {"user": "<|im_start|>user\\n", …}, "closes": "<|im_end|>\\n"}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.field_types import as_table, check_fields
from niwaki_runtime.tokenizer import FILE as TOKENIZER
from niwaki_runtime.tokenizer import Tokenizer

__all__ = ["ASSISTANT", "FILE", "ROLES", "ChatTemplate", "Chats", "Message", "check_messages"]

FILE = "chat.json"
"""Where a bundle keeps the template."""
ROLES = ("system", "user", "assistant")
ASSISTANT = "assistant"
"""The role whose turns a model writes."""
Message = Mapping[str, str]
"""`{"role": "user", "content": "What does json.dumps do?"}`"""


@dataclass(frozen=True)
class ChatTemplate:
    """What stands around the turns of a conversation.

    opens:  text before a turn, by role; it holds at least one special token
    closes: text after every turn, which begins with a special token: that one ends an answer
    """

    opens: Mapping[str, str] = field(default_factory=lambda: {role: f"<|{role}|>" for role in ROLES})
    closes: str = "<|end|>"

    def __post_init__(self) -> None:
        if ASSISTANT not in self.opens:
            raise CallError(f"a chat's template must say what opens a turn of the role '{ASSISTANT}'")
        if not self.closes or not all(self.opens.values()):
            raise CallError("a chat's template must have a text before a turn of every role, and one after")
        if len(set(self.opens.values())) < len(self.opens):
            raise CallError("a chat's template must open the turns of every role in another way")

    def to_json(self) -> dict[str, Any]:
        return {"opens": dict(self.opens), "closes": self.closes}

    @classmethod
    def from_text(cls, text: str) -> ChatTemplate:
        """Raises CallError for what is no template."""
        said = f"{FILE} must be a table with 'opens' and 'closes'"
        try:
            record = as_table(json.loads(text), said)
        except ValueError as error:
            raise CallError(f"{said}: {error}") from error
        check_fields(cls, record, "a chat's template")
        known = {name: value for name, value in record.items() if name in ("opens", "closes")}
        return cls(**known)


class Chats:
    """Conversations ⇄ tokens, by a template and a tokenizer.

    Raises CallError where the tokenizer has no special token where the template needs one.
    """

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self.template, self.tokenizer = template, tokenizer
        self._opens = {role: self._around(text) for role, text in template.opens.items()}
        self._closes = self._around(template.closes)
        if not any(self._is_special(t) for t in self._closes[:1]):
            raise CallError(f"'{template.closes}' must begin with a special token of the tokenizer")
        for role, tokens in self._opens.items():
            if not any(self._is_special(t) for t in tokens):
                raise CallError(
                    f"'{template.opens[role]}' before turns of '{role}' holds no special token of the "
                    "tokenizer: any content could spell it"
                )

    @classmethod
    def of(cls, files: Mapping[str, str]) -> Chats:
        """By what a model ships. Raises CallError for a model that has no template or no tokenizer."""
        if FILE not in files or TOKENIZER not in files:
            raise CallError("only a model trained on chats, which ships their template, can answer")
        return cls(ChatTemplate.from_text(files[FILE]), Tokenizer(files[TOKENIZER]))

    def _around(self, text: str) -> list[int]:
        one = self.tokenizer.number_of(text)
        return self.tokenizer.encode(text) if one is None else [one]

    def _is_special(self, token: int) -> bool:
        return not self.tokenizer.decode([token]) and bool(self.tokenizer.decode([token], special=True))

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self._closes[0]

    @property
    def after_end(self) -> int:
        """Tokens that stand after that one before the next turn."""
        return len(self._closes) - 1

    def turn(self, message: Message) -> tuple[list[int], int]:
        """The tokens of a turn, and how many of them stand before its content. What is written like a special
        token is text. Raises CallError for an unknown role."""
        role = message["role"]
        if role not in self._opens:
            raise CallError(f"this model knows no role '{role}'; {nearest(role, self._opens)}")
        opened = self._opens[role]
        content = self.tokenizer.encode(message["content"], special=False)
        return [*opened, *content, *self._closes], len(opened)

    def tokens(self, messages: Iterable[Message]) -> tuple[list[int], list[bool]]:
        """A whole conversation, and which of its tokens a model has to say: the contents of the assistant's
        turns, with the token that ends each."""
        found: list[int] = []
        counted: list[bool] = []
        for message in messages:
            turn, begin = self.turn(message)
            said = message["role"] == ASSISTANT
            end = len(turn) - self.after_end
            found += turn
            counted += [said and begin <= i < end for i in range(len(turn))]
        return found, counted

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """What the next answer is said after. Raises CallError where it is not the assistant's turn."""
        if not messages or messages[-1]["role"] == ASSISTANT:
            raise CallError("a question is needed: the last message must not be the assistant's own")
        return [*self.tokens(messages)[0], *self._opens[ASSISTANT]]

    def messages(self, tokens: Iterable[Any]) -> list[dict[str, str]]:
        """The conversation in tokens, what stands between its turns left out; the last turn may be
        unfinished."""
        row = list(map(int, tokens))
        found, at = [], 0
        while at < len(row):
            role = next(
                (r for r in self._longest if row[at : at + len(self._opens[r])] == self._opens[r]), ""
            )
            if not role:
                at += 1
                continue
            begin = at + len(self._opens[role])
            at = row.index(self.end, begin) if self.end in row[begin:] else len(row)
            found.append({"role": role, "content": self.tokenizer.decode(row[begin:at])})
        return found

    @cached_property
    def _longest(self) -> list[str]:
        return sorted(self._opens, key=lambda role: -len(self._opens[role]))

    def said(self, tokens: Iterable[Any]) -> str:
        """A conversation to read: a line for each turn, under the name of its role."""
        return "\n".join(f"{m['role']}: {m['content']}" for m in self.messages(tokens))


def check_messages(given: Any) -> list[dict[str, str]]:
    """Messages as `{"role": …, "content": …}`. Raises CallError that says which is none."""
    if isinstance(given, Mapping) or not isinstance(given, Sequence) or isinstance(given, str):
        raise CallError(f"messages must be a list of tables with 'role' and 'content', not {given!r:.60}")
    found = []
    for i, one in enumerate(given):
        if not isinstance(one, Mapping) or not all(isinstance(one.get(k), str) for k in ("role", "content")):
            raise CallError(
                f"message {i} must be a table with the texts 'role' and 'content', not {one!r:.80}"
            )
        try:
            one["content"].encode()
        except UnicodeEncodeError as error:
            raise CallError(f"message {i}: character {error.start} is half of a surrogate pair") from None
        found.append({"role": one["role"], "content": one["content"]})
    return found
