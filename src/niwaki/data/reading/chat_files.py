"""Conversations out of JSONL files: messages, pairs of prompt and response, or ShareGPT's `conversations`."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

from niwaki.core.contract import CallError
from niwaki.data.audit import Finding, shortened
from niwaki.data.reading.text_files import decoded, read_files
from niwaki_runtime.chat_template import ASSISTANT, ROLES

__all__ = ["Conversation", "conversation_of", "read_chats"]

Conversation = list[dict[str, str]]
"""Messages `{"role": "system" | "user" | "assistant", "content": …}` in turn; the last is an answer."""

_LISTS = ("messages", "conversations", "conversation")
_ROLES = ("role", "from")
_CONTENTS = ("content", "value", "text")
_PROMPTS = ("prompt", "instruction", "question")
_RESPONSES = ("completion", "response", "output", "answer")
_CALLED = {"human": "user", "gpt": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT, "chatgpt": ASSISTANT}
"""Other names of the roles."""
_MARK = "\ufeff"  # that some editors begin UTF-8 files with


def read_chats(path: str) -> tuple[list[Conversation], list[Finding], list[bytes]]:
    """The conversations of a .jsonl file, or of all in a folder; what was set aside; the files' contents.

    Raises CallError where there is none.
    """
    files, findings = read_files(path, ("jsonl", "json"), "chats")
    found: list[Conversation] = []
    broken: list[str] = []
    for name, content in files:
        for place, record in _records(name, content, broken):
            try:
                found.append(conversation_of(record))
            except ValueError as error:
                broken.append(f"{place}: {error}")
    if broken:
        words = f"{len(broken)} lines hold no conversation and were set aside"
        findings.append(Finding("error", "unreadable", words, shortened(broken)))
    if not found:
        why = f": {broken[0]}" if broken else ""
        raise CallError(f"'{path}' holds no conversation{why}")
    return found, findings, [content for _, content in files]


def _records(name: str, content: bytes, broken: list[str]) -> list[tuple[str, Any]]:
    """What a file holds, with its place: a JSON text per line, or one list of them."""
    try:
        text = decoded(content).removeprefix(_MARK)
    except ValueError as error:
        broken.append(f"{name}: {error}")
        return []
    if text.lstrip().startswith("["):
        try:
            return [(f"{name}[{i}]", record) for i, record in enumerate(_parsed(text))]
        except ValueError as error:
            broken.append(f"{name}: is no JSON ({error})")
            return []
    found = []
    # Not splitlines(): U+2028 and other ends of lines that it knows may stand within a text of JSON.
    for i, line in enumerate(re.split("\r\n|\n|\r", text), 1):
        try:
            found += [(f"{name}:{i}", _parsed(line))] if line.strip() else []
        except ValueError as error:
            broken.append(f"{name}:{i}: is no JSON ({error})")
    return found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def conversation_of(record: Any) -> Conversation:
    """The conversation in a record, up to its last answer.

    Raises ValueError, in a few words, where it holds none.
    """
    if not isinstance(record, Mapping):
        raise ValueError("is no table")
    listed = _first(record, _LISTS)
    if listed is None:
        messages = _pair(record)
    elif isinstance(listed, list) and listed:
        messages = [_message(one) for one in listed]
    else:
        raise ValueError("its messages are no list, or an empty one")
    while messages and messages[-1]["role"] != ASSISTANT:
        messages.pop()
    if not messages:
        raise ValueError("nothing in it is said by the assistant")
    if messages[0]["role"] == ASSISTANT and len(messages) == 1:
        raise ValueError("its only message is an answer, and nothing was asked")
    for before, after in itertools.pairwise(messages):
        if before["role"] == after["role"] == ASSISTANT:
            raise ValueError("an answer follows an answer in it, and nothing was asked between them")
    return messages


def _pair(record: Mapping[str, Any]) -> Conversation:
    asked, said = _first(record, _PROMPTS), _first(record, _RESPONSES)
    if not isinstance(asked, str) or not isinstance(said, str):
        raise ValueError("has neither 'messages' nor the texts 'prompt' and 'response'")
    more = record.get("input")  # Alpaca's
    asked = f"{asked}\n\n{more}" if isinstance(more, str) and more else asked
    system = record.get("system")
    first = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
    messages = [*first, {"role": "user", "content": asked}, {"role": ASSISTANT, "content": said}]
    return [{**message, "content": _whole(message["content"])} for message in messages]


def _message(one: Any) -> dict[str, str]:
    if not isinstance(one, Mapping):
        raise ValueError("one of its messages is no table")
    role, content = _first(one, _ROLES), _first(one, _CONTENTS)
    role = _CALLED.get(str(role).lower(), str(role).lower())
    if role not in ROLES:
        raise ValueError(f"has the role '{role:.20}', which is none of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise ValueError(f"the content of a message of '{role}' is no text")
    return {"role": role, "content": _whole(content)}


def _whole(content: str) -> str:
    """The text itself. Raises ValueError for halves of surrogate pairs, which are no characters."""
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} of a text is half of a surrogate pair") from None
    return content


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)
