"""Texts as they are made: completions of a prompt, and answers of a model that was trained on chats."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.core.contract import CallError
from niwaki.serving.limits import check_options, check_work
from niwaki.serving.requests import body_of, count_of
from niwaki.serving.settings import Limits
from niwaki.serving.sse import stream
from niwaki.serving.texts import check_length
from niwaki.studio.forms import settings_of
from niwaki.studio.models import Model
from niwaki.studio.page import Page, register_page
from niwaki_runtime.chat import CONTINUE, stream_answer
from niwaki_runtime.chat_template import FILE as CHAT
from niwaki_runtime.chat_template import check_messages
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.streaming import TextStream
from niwaki_runtime.tokenizer import FILE, Tokenizer

__all__ = ["Chat"]

_LIMITS = Limits()
_END: Any = object()


@register_page("chat")
class Chat(Page):
    """For models that go on with a prompt and ship their tokenizer. Pieces come as server-sent events,
    `piece` in each; who goes away ends the text."""

    title = "Texts"
    order = 60
    scripts = ("forms.js",)

    def lacks(self) -> str:
        return "" if self._models() else "No model here goes on with a prompt in words."

    def _models(self) -> list[Model]:
        return [
            model
            for model in self.sources.with_program(CONTINUE)
            if model.programs[CONTINUE].output.is_tokens and FILE in model.runner.files
        ]

    def routes(self) -> list[Route]:
        return [
            Route("/chat/models", self._listed),
            Route("/chat/complete", self._complete, methods=["POST"]),
            Route("/chat/answer", self._answer, methods=["POST"]),
        ]

    async def _listed(self, request: Request) -> Response:
        """Each with its settings, its room in tokens, and whether it answers in chats."""

        def found() -> list[dict[str, Any]]:
            return [
                {
                    "name": model.name,
                    "what": model.what,
                    "chats": CHAT in model.runner.files,
                    "room": int(model.programs[CONTINUE].output.shape[0]),
                    "fields": [],
                    "settings": settings_of(model.programs[CONTINUE]),
                }
                for model in self._models()
            ]

        return JSONResponse({"models": await asyncio.to_thread(found)})

    async def _complete(self, request: Request) -> Response:
        """`model`, `prompt`, `most` new tokens, `seed`, `settings`."""
        body = await body_of(request, _LIMITS)
        prompt, most = body.get("prompt", ""), count_of(body, "most", default=0)
        if not isinstance(prompt, str):
            raise CallError(f"a prompt is a text, not {prompt!r:.60}")
        check_length([prompt], _LIMITS)
        model, seed, settings = await asyncio.to_thread(self._asked, body)
        return stream(
            _pieces(model, lambda runner: _completion(runner, prompt, most, seed, settings)), _LIMITS
        )

    async def _answer(self, request: Request) -> Response:
        """`model`, `messages`, `seed`, `settings`."""
        body = await body_of(request, _LIMITS)
        messages = check_messages(body.get("messages"))
        check_length([one["content"] for one in messages], _LIMITS)
        model, seed, settings = await asyncio.to_thread(self._asked, body)
        return stream(
            _pieces(model, lambda runner: stream_answer(runner, messages, seed=seed, **settings)), _LIMITS
        )

    def _asked(self, body: dict[str, Any]) -> tuple[Model, int, dict[str, Any]]:
        model = self.sources.model(body.get("model", ""))
        settings = check_options(body.get("settings") or {}, _LIMITS)
        check_work(model.runner.program(CONTINUE), settings, _LIMITS)
        return model, count_of(body, "seed", default=0), settings


def _completion(runner: Any, prompt: str, most: int, seed: int, settings: dict[str, Any]) -> Iterator[str]:
    tokens = Tokenizer(runner.files[FILE]).encode(prompt)
    program = runner.program(CONTINUE if tokens else SAMPLING)
    room = program.output.shape[0]
    if most > 0 and "length" in program.sampler.options():
        settings = {**settings, "length": min(room, len(tokens) + most)}
    if not tokens:
        return TextStream(runner, SAMPLING, seed=seed, **settings)
    spec = program.inputs["prompt"]
    longest = min(spec.shape[0], room - 1)
    if len(tokens) > longest:
        raise CallError(f"the prompt takes {len(tokens)} tokens; the model reads at most {longest}")
    row = np.full(spec.shape, -1, np.int64)
    row[: len(tokens)] = tokens
    return TextStream(runner, CONTINUE, seed=seed, inputs={"prompt": row}, skip=len(tokens), **settings)


async def _pieces(model: Model, begin: Callable[[Any], Iterator[str]]) -> AsyncIterator[dict[str, Any]]:
    """Pieces of a text that a thread makes, while somebody reads them."""
    loop, line, gone = asyncio.get_running_loop(), asyncio.Queue[Any](), threading.Event()

    def put(one: Any) -> None:
        loop.call_soon_threadsafe(line.put_nowait, one)

    def work() -> None:
        try:
            with model.held() as runner:
                for piece in begin(runner):
                    if gone.is_set():
                        return
                    put(piece)
        except Exception as error:
            put(error)
        finally:
            put(_END)

    task = loop.run_in_executor(None, work)
    try:
        while (now := await line.get()) is not _END:
            if isinstance(now, Exception):
                raise now
            yield {"piece": now}
        await task
    finally:
        gone.set()
