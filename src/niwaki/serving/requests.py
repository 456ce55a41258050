"""Bodies of requests, within limits, and callers that go away."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections.abc import Awaitable, Sequence
from typing import Any, NoReturn, TypeVar

from starlette.requests import Request

from niwaki.serving.batcher import Item
from niwaki.serving.problems import WITHHELD, Problem, as_problem
from niwaki.serving.settings import Limits
from niwaki_runtime.errors import CallError

__all__ = ["abandon", "body_of", "count_of", "gathered", "number_of", "seed_of", "while_there"]

T = TypeVar("T")


async def body_of(request: Request, limits: Limits) -> dict[str, Any]:
    """The JSON object that a request brings.

    Only as `application/json`: a page of another site cannot send that without being asked for permission
    first, so that it cannot use a server on the reader's own machine. Nothing is unpacked, so that nothing
    small becomes large.
    Raises Problem 413 where it is too large, 415 where it is of another kind, 400 where it is no JSON object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "no_json", "send JSON, with the header 'Content-Type: application/json'")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "compressed", "send the body as it is: compressed bodies are not unpacked")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limits.body:
            raise Problem(413, "too_large", f"a request has at most {limits.body:,} bytes")
        parts.append(part)
    try:
        body = json.loads(b"".join(parts), parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "invalid_json", f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise Problem(400, "invalid_json", 'the body must be one JSON object, as {"n": 1}')
    return body


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def _finite(text: str) -> float:
    """1e400 is a number in JSON, and none here."""
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def number_of(body: dict[str, Any], *names: str, default: Any = None) -> Any:
    """The first of some fields that is there and not null. Raises CallError where it is no number."""
    for name in names:
        value = body.get(name)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise CallError(f"'{name}' must be a number, not {value!r:.60}")
            return value
    return default


def count_of(body: dict[str, Any], *names: str, default: Any = None) -> Any:
    """The same of a whole number."""
    value = number_of(body, *names, default=default)
    if isinstance(value, float):
        if value != int(value):
            raise CallError(f"'{names[0]}' must be a whole number, not {value}")
        return int(value)
    return value


def seed_of(body: dict[str, Any]) -> int:
    """The seed that is asked for, or a new one, which the answer names."""
    seed = count_of(body, "seed", "rng_seed")
    return secrets.randbits(31) if seed is None else int(seed)


async def while_there(request: Request, work: Awaitable[T], limits: Limits) -> T:
    """What comes of some work, while the caller waits for it.

    Raises Problem 504 where it takes too long, and 499 where the caller has gone; the work is cancelled then.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, timeout=limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise Problem(499, "gone", "the caller has gone")
        raise Problem(504, "timeout", f"the answer took longer than {limits.seconds:g} s")
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def gathered(request: Request, items: Sequence[Item], limits: Limits) -> list[Any]:
    """The results of items, each an array or the Problem that is its own. Raises the Problem where all failed
    by it."""
    try:
        await while_there(request, asyncio.wait([item.answer for item in items]), limits)
    finally:
        abandon(items)
    found = [_result(item) for item in items]
    withheld = sum(isinstance(one, Problem) and one.code == WITHHELD for one in found)
    request.scope[WITHHELD] = withheld / len(found)
    if all(isinstance(one, Problem) for one in found):
        raise found[0]
    return found


def abandon(items: Sequence[Item]) -> None:
    """Nobody waits for these any more: those that are not begun are never made."""
    for item in items:
        item.answer.cancel()


def _result(item: Item) -> Any:
    error = item.answer.exception()
    return item.answer.result() if error is None else as_problem(error)
