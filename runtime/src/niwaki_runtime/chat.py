"""Answers of a model that was trained on chats: messages → template → tokens → text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from niwaki_runtime.chat_template import Chats, Message, check_messages
from niwaki_runtime.errors import CallError
from niwaki_runtime.streaming import TextStream

if TYPE_CHECKING:
    from niwaki_runtime.programs import Runner

__all__ = ["CONTINUE", "answer", "prompt_of", "stream_answer"]

CONTINUE = "continue"
"""The program that begins with a prompt."""


def stream_answer(
    runner: Runner,
    messages: Sequence[Message],
    *,
    seed: int = 0,
    chats: Chats | None = None,
    **options: Any,
) -> Iterator[str]:
    """The next answer in a conversation, in pieces as they are made; it ends at the end of its turn, or where
    the model has no more room.

    messages: `{"role": "system" | "user" | "assistant", "content": …}` in turn; the last asks
    chats:    template and tokenizer; default: those that the model ships
    options:  as of `Runner.run`: `temperature=0`, `stop="\\n"`, `schema=…`
    Raises CallError where the model was not trained on chats, for messages that are none, and for a
    conversation that is longer than the model's sequences.
    """
    row, length, end = prompt_of(runner, messages, chats)
    return TextStream(runner, CONTINUE, seed=seed, inputs={"prompt": row}, skip=length, **{**end, **options})


def prompt_of(
    runner: Runner, messages: Sequence[Message], chats: Chats | None = None
) -> tuple[np.ndarray, int, dict[str, Any]]:
    """A conversation as the prompt of `continue`, filled up with −1, the number of its tokens, and the option
    that lets the answer end with its turn, where the model does not end it by itself.

    Raises CallError as `stream_answer` does.
    """
    chats, program = chats or Chats.of(runner.files), runner.program(CONTINUE)
    spec = program.inputs["prompt"]
    prompt = chats.prompt(check_messages(messages))
    room = spec.shape[0]
    if len(prompt) > room:
        raise CallError(
            f"the conversation takes {len(prompt)} tokens; the model reads at most {room} before it answers"
        )
    row = np.full(spec.shape, -1, dtype=np.int64)
    row[: len(prompt)] = prompt
    return row, len(prompt), {} if getattr(program.sampler, "stop", -1) >= 0 else {"stop": chats.end}


def answer(runner: Runner, messages: Sequence[Message], *, seed: int = 0, **options: Any) -> str:
    """The next answer in a conversation at once, as `stream_answer` says.

    >>> answer(bundle, [{"role": "user", "content": "What does json.dumps do?"}])  # doctest: +SKIP
    'Serialize obj to a JSON formatted str.'
    """
    return "".join(stream_answer(runner, messages, seed=seed, **options))
