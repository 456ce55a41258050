"""Questions to a model that was trained on chats, and its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.core.paths import is_file
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki_runtime.chat import stream_answer
from niwaki_runtime.chat_template import check_messages

__all__ = ["Chat", "ChatOptions"]


class ChatOptions(UseOptions):
    """
    system:      what is said before the conversation; a file's name stands for its text
    temperature: of what is drawn; 0 always says the most probable token, None is as the model was made
    top_p:       of the tokens that are drawn only the most probable ones, of this share together
    stop:        a text that ends an answer, beside the end of its turn
    """

    files: ClassVar[tuple[str, ...]] = ("system",)
    system: str = ""
    temperature: float | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    stop: str = ""


@register_use("chat")
class Chat(Use):
    """A question in words, or a file of messages (`[{"role": "user", "content": …}]`) with words beside it
    that are asked after them. The outcome's rows are the whole conversation, answer included: written as
    .json it is what the next call goes on from."""

    Options = ChatOptions
    summary = "answers a question, or goes on with a conversation"
    example = 'runs/docs-chat "What does json.dumps do?" system=notes.txt -o chat.json'

    def apply(self, call: Call, options: ChatOptions) -> Outcome:
        messages = _conversation(call, options.system)
        asked: dict[str, Any] = {
            name: value for name in ("temperature", "top_p") if (value := getattr(options, name)) is not None
        }
        if options.stop:
            asked["stop"] = options.stop
        pieces = []
        for piece in stream_answer(call.model, messages, seed=call.seed, **asked):
            pieces.append(piece)
            if call.say is not None:
                call.say(piece)
        said = "".join(pieces)
        if call.say is not None:
            call.say("\n")
        rows = [*messages, {"role": "assistant", "content": said}]
        return Outcome(
            record={"answer": said, "messages": rows}, lines=[] if call.say is not None else [said], rows=rows
        )


def _conversation(call: Call, system: str) -> list[dict[str, str]]:
    """The messages that are to be answered. Raises CallError where nothing is asked."""
    messages: list[dict[str, str]] = []
    words = []
    for word, place in zip(call.words, call.files, strict=True):
        if not call.local:
            words.append(word)
        elif place.suffix == ".json" and is_file(place):
            messages += _read(place)
        elif place.suffix == ".json" and len(word.split()) == 1:
            raise CallError(f"{place} does not exist")
        else:
            words.append(word)
    if any(word.strip() for word in words):
        messages.append({"role": "user", "content": " ".join(words)})
    if not messages:
        raise CallError('ask something, as `niwaki use chat RUN "What does json.dumps do?"`')
    if system:
        messages.insert(0, {"role": "system", "content": _text(system)})
    return messages


def _read(place: Path) -> list[dict[str, str]]:
    try:
        record = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CallError(f"{place} cannot be read as messages: {error}") from error
    return check_messages(record.get("messages", record) if isinstance(record, dict) else record)


def _text(given: str) -> str:
    """The text in a file of that name, or the text itself."""
    try:
        place = Path(given)
        return place.read_text("utf-8").rstrip("\n") if is_file(place) else given
    except (OSError, ValueError) as error:
        raise CallError(f"{given:.80} cannot be read as text: {error}") from error
