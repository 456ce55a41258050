"""`POST /v1/chat/completions`: the next answer of a conversation, at once or as a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.serving.problems import Problem
from niwaki.serving.requests import body_of, count_of, gathered, seed_of
from niwaki.serving.served import Served
from niwaki.serving.service import service_of
from niwaki.serving.sse import stream
from niwaki.serving.texts import Prompt, begin, check_length, read_along, said_by, text_options, tokenizer_for
from niwaki_runtime.chat import prompt_of
from niwaki_runtime.chat_template import check_messages

__all__ = ["ROUTES"]


async def chat(request: Request) -> Response:
    service = service_of(request)
    body = await body_of(request, service.limits)
    model = service.model_for(request, body)
    tokenizer = tokenizer_for(model)
    messages = check_messages(_messages(body.get("messages")))
    check_length([one["content"] for one in messages], service.limits)
    row, length, end = prompt_of(model.bundle, messages)
    prompt = Prompt(row[:length].tolist(), end, body.get("conditions"))
    seed, n, options = seed_of(body), count_of(body, "n", default=1), text_options(body)
    most = count_of(body, "max_completion_tokens", "max_tokens")
    head = {
        "id": f"chatcmpl-{secrets.token_hex(8)}",
        "object": "chat.completion.chunk" if body.get("stream") else "chat.completion",
        "created": int(time.time()),
        "model": model.name,
        "seed": seed,
    }
    if body.get("stream"):
        items, pieces = await read_along(
            tokenizer, prompt, n, lambda readers: begin(model, prompt, n, most, seed, options, readers)
        )
        return stream(_records(head, items, pieces, tokenizer, prompt, model), service.limits)
    items = await begin(model, prompt, n, most, seed, options)
    found = await gathered(request, items, service.limits)
    choices, made = [], 0
    for i, one in enumerate(found):
        if isinstance(one, Problem):
            choices.append({"index": i, "message": None, "finish_reason": "error", "error": one.to_json()})
            continue
        said = said_by(tokenizer, one, prompt, model)
        made += said.made
        message = {"role": "assistant", "content": said.text}
        choices.append({"index": i, "message": message, "logprobs": None, "finish_reason": said.finish})
    usage = {"prompt_tokens": length, "completion_tokens": made, "total_tokens": length + made}
    return JSONResponse({**head, "choices": choices, "usage": usage})


def _messages(given: Any) -> Any:
    """Contents that come in parts, all of them texts, as one text; all else is left to its check."""
    if not isinstance(given, list):
        return given
    return [
        {**one, "content": _joined(one.get("content"))} if isinstance(one, dict) else one for one in given
    ]


def _joined(content: Any) -> Any:
    parts = content if isinstance(content, list) else None
    texts = [p.get("text") if isinstance(p, dict) and p.get("type") == "text" else None for p in parts or ()]
    return "".join(texts) if parts and all(isinstance(t, str) for t in texts) else content  # type: ignore[arg-type]


async def _records(
    head: dict[str, Any], items: Any, pieces: Any, tokenizer: Any, prompt: Prompt, model: Served
) -> AsyncIterator[dict[str, Any]]:
    for i in range(len(items)):
        yield _chunk(head, i, {"role": "assistant", "content": ""})
    async for i, piece in pieces:
        yield _chunk(head, i, {"content": piece})
    for i, item in enumerate(items):
        yield _chunk(head, i, {}, said_by(tokenizer, item.answer.result(), prompt, model).finish)


def _chunk(head: dict[str, Any], i: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {**head, "choices": [{"index": i, "delta": delta, "finish_reason": finish}]}


ROUTES = [Route("/v1/chat/completions", chat, methods=["POST"])]
