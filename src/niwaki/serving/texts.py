"""Texts of one request: what they begin with, how they are made, and what is said of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from niwaki.serving.batcher import Item
from niwaki.serving.prompts import asked_by
from niwaki.serving.requests import abandon, count_of, number_of
from niwaki.serving.sampling import Reader
from niwaki.serving.served import Served
from niwaki_runtime.chat import CONTINUE
from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.streaming import Pieces
from niwaki_runtime.tokenizer import FILE, Tokenizer

__all__ = ["Prompt", "Said", "begin", "prompt_in", "read_along", "said_by", "text_options", "tokenizer_for"]

_NUMBERS = ("temperature", "top_p", "min_p")
_COUNTS = ("top_k",)
_REFUSED = ("logprobs", "top_logprobs", "tools", "functions", "echo", "suffix", "logit_bias")
_END: Any = object()


@dataclass(frozen=True)
class Prompt:
    """
    tokens:  what a text begins with
    options: of ours that go with it (`stop=…` of a chat's turns)
    asked:   further conditions, by name
    """

    tokens: list[int]
    options: dict[str, Any] = field(default_factory=dict)
    asked: Any = None


@dataclass(frozen=True)
class Said:
    """
    text:   without the prompt
    made:   tokens of it
    finish: `stop` where the model or a stop string ended it, `length` where there was no more room
    """

    text: str
    made: int
    finish: str


def tokenizer_for(model: Served) -> Tokenizer:
    """Raises CallError where a model makes no texts."""
    if FILE not in model.bundle.files or not model.bundle.spec.is_tokens:
        raise CallError(f"this model makes {model.bundle.spec.modality}, no texts with a tokenizer")
    return Tokenizer(model.bundle.files[FILE])


def prompt_in(tokenizer: Tokenizer, value: Any) -> Prompt:
    """A prompt of a request: a text, or tokens. Raises CallError for anything else."""
    if value is None or isinstance(value, str):
        return Prompt(tokenizer.encode(value or ""))
    if isinstance(value, list) and all(isinstance(t, int) and not isinstance(t, bool) for t in value):
        return Prompt(value)
    raise CallError(f"a prompt is a text or a list of tokens, not {value!r:.60}")


def text_options(body: dict[str, Any]) -> dict[str, Any]:
    """What a request says of how tokens are chosen, by the names of our samplers.

    Raises CallError for what no model here can do.
    """
    for name in _REFUSED:
        if body.get(name):
            raise CallError(f"'{name}' is not offered here")
    for name in ("presence_penalty", "frequency_penalty"):
        if number_of(body, name, default=0):
            raise CallError(f"'{name}' is not offered here; 'repetition_penalty' is")
    options: dict[str, Any] = dict(body.get("options") or {})
    found = {name: number_of(body, name) for name in _NUMBERS} | {
        name: count_of(body, name) for name in _COUNTS
    }
    found["penalty"] = number_of(body, "repetition_penalty")
    options |= {name: value for name, value in found.items() if value is not None}
    if body.get("stop"):
        options["stop"] = body["stop"]
    form = body.get("response_format") or {"type": "text"}
    if not isinstance(form, dict) or form.get("type") not in ("text", "json_object", "json_schema", "regex"):
        raise CallError("response_format must have the type text, json_object, json_schema or regex")
    if form["type"] == "json_object":
        options["schema"] = {"type": "object"}
    elif form["type"] == "json_schema":
        options["schema"] = (form.get("json_schema") or {}).get("schema")
    elif form["type"] == "regex":
        options["regex"] = form.get("regex")
    return options


async def begin(
    model: Served,
    prompt: Prompt,
    n: int,
    most: int | None,
    seed: int,
    options: dict[str, Any],
    readers: Sequence[Reader] = (),
    start: int = 0,
) -> list[Item]:
    """Queue n texts after one prompt, of at most so many new tokens.

    Raises CallError for a prompt that is longer than the model reads, and for one where it reads none.
    """  # fmt: skip
    program = model.bundle.program(CONTINUE if prompt.tokens else SAMPLING)
    asked = asked_by(model.bundle, program, None, prompt.asked) or {}
    room = program.output.shape[0]
    if prompt.tokens:
        spec = program.inputs["prompt"]
        if len(prompt.tokens) > min(spec.shape[0], room - 1):
            raise CallError(
                f"the prompt takes {len(prompt.tokens)} tokens; the model reads at most "
                f"{min(spec.shape[0], room - 1)}"
            )
        row = np.full(spec.shape, -1, np.int64)
        row[: len(prompt.tokens)] = prompt.tokens
        asked = {**asked, "prompt": row}
    trusted = {k: v for k, v in prompt.options.items() if k not in options}
    if most is not None:
        if most < 1:
            raise CallError(f"max_tokens must be at least 1, not {most}")
        trusted["length"] = min(room, len(prompt.tokens) + most)
    return await model.submit(
        CONTINUE if prompt.tokens else SAMPLING, n, seed=seed, start=start, inputs=asked or None,
        options=options, trusted=trusted, readers=readers,
    )  # fmt: skip


def said_by(tokenizer: Tokenizer, tokens: np.ndarray, prompt: Prompt, model: Served) -> Said:
    """What a finished sample says after its prompt."""
    made = tokens[len(prompt.tokens) :].tolist()
    sampler = model.bundle.program(CONTINUE if prompt.tokens else SAMPLING).sampler
    ends = {-1, prompt.options.get("stop", -1), *map(int, getattr(sampler, "ends", lambda: ())())}
    over = next((i for i, token in enumerate(made) if token in ends), None)
    return Said(
        tokenizer.decode(tokens[len(prompt.tokens) :]),
        len(made) if over is None else over,
        "length" if over is None else "stop",
    )


def reader_into(tokenizer: Tokenizer, prompt: Prompt, put: Callable[[Any], None]) -> Reader:
    """A reader whose pieces go into the loop, from the thread of the batches."""
    loop = asyncio.get_running_loop()
    return Reader(Pieces(tokenizer, len(prompt.tokens)), lambda piece: _into(loop, put, piece))


def _into(loop: asyncio.AbstractEventLoop, put: Callable[[Any], None], piece: Any) -> None:
    loop.call_soon_threadsafe(put, piece)


async def read_along(
    tokenizer: Tokenizer, prompt: Prompt, n: int, submit: Callable[[list[Reader]], Any]
) -> tuple[list[Item], AsyncIterator[tuple[int, str]]]:
    """Queue n texts by `submit(readers)`; the items, and (which, piece) as pieces come, to the end of all."""
    line: asyncio.Queue[Any] = asyncio.Queue()
    readers = [
        reader_into(tokenizer, prompt, lambda piece, i=i: line.put_nowait((i, piece)))  # type: ignore[misc]
        for i in range(n)
    ]
    items: list[Item] = await submit(readers)
    left = len(items)

    def over(_: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            line.put_nowait(_END)

    for item in items:
        item.answer.add_done_callback(over)

    async def pieces() -> AsyncIterator[tuple[int, str]]:
        try:
            while (now := await line.get()) is not _END:
                yield now
        finally:
            abandon(items)

    return items, pieces()
