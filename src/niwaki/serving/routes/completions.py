"""`POST /v1/completions`: texts that go on from a prompt, at once or as a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.serving.problems import Problem
from niwaki.serving.requests import abandon, body_of, count_of, gathered, seed_of
from niwaki.serving.served import Served
from niwaki.serving.service import service_of
from niwaki.serving.sse import stream
from niwaki.serving.texts import (
    Prompt,
    begin,
    check_length,
    prompt_in,
    read_along,
    said_by,
    text_options,
    tokenizer_for,
)
from niwaki_runtime.errors import CallError

__all__ = ["ROUTES"]


async def completions(request: Request) -> Response:
    service = service_of(request)
    body = await body_of(request, service.limits)
    model = service.model_for(request, body)
    tokenizer = tokenizer_for(model)
    asked = body.get("conditions")
    check_length(_prompts(body), service.limits)
    prompts = [Prompt(one.tokens, asked=asked) for one in (prompt_in(tokenizer, p) for p in _prompts(body))]
    seed, n, options = seed_of(body), count_of(body, "n", default=1), text_options(body)
    most = count_of(body, "max_tokens", "max_completion_tokens")
    head = {
        "id": f"cmpl-{secrets.token_hex(8)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model.name,
        "seed": seed,
    }
    if body.get("stream"):
        if len(prompts) != 1:
            raise CallError("a stream goes on from one prompt")
        items, pieces = await read_along(
            tokenizer, prompts[0], n,
            lambda readers: begin(model, prompts[0], n, most, seed, options, readers),
        )  # fmt: skip
        return stream(_records(head, items, pieces, tokenizer, prompts[0], model), service.limits)
    items = []
    try:
        for prompt in prompts:
            items += await begin(model, prompt, n, most, seed, options)
    except Exception:
        abandon(items)
        raise
    found = await gathered(request, items, service.limits)
    choices, made = [], 0
    for i, one in enumerate(found):
        if isinstance(one, Problem):
            choices.append({"index": i, "text": "", "finish_reason": "error", "error": one.to_json()})
            continue
        said = said_by(tokenizer, one, prompts[i // n], model)
        made += said.made
        choices.append({"index": i, "text": said.text, "logprobs": None, "finish_reason": said.finish})
    read = sum(len(prompt.tokens) for prompt in prompts)
    usage = {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}
    return JSONResponse({**head, "choices": choices, "usage": usage})


def _prompts(body: dict[str, Any]) -> list[Any]:
    """Several prompts, or one."""
    prompt = body.get("prompt", "")
    several = isinstance(prompt, list) and prompt and all(isinstance(p, str | list) for p in prompt)
    return prompt if several else [prompt]


async def _records(
    head: dict[str, Any], items: Any, pieces: Any, tokenizer: Any, prompt: Prompt, model: Served
) -> AsyncIterator[dict[str, Any]]:
    async for i, piece in pieces:
        yield {**head, "choices": [{"index": i, "text": piece, "finish_reason": None}]}
    for i, item in enumerate(items):
        said = said_by(tokenizer, item.answer.result(), prompt, model)
        yield {**head, "choices": [{"index": i, "text": "", "finish_reason": said.finish}]}


ROUTES = [Route("/v1/completions", completions, methods=["POST"])]
