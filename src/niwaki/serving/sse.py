"""Server-sent events, as OpenAI's clients read a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse

from niwaki.serving.problems import as_problem
from niwaki.serving.settings import Limits

__all__ = ["stream"]


def stream(records: AsyncIterator[dict[str, Any]], limits: Limits) -> StreamingResponse:
    """Records as events, `[DONE]` last; what goes wrong on the way is an event with an error."""
    return StreamingResponse(
        _events(records, limits), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(records: AsyncIterator[dict[str, Any]], limits: Limits) -> AsyncIterator[str]:
    try:
        async with asyncio.timeout(limits.seconds):
            async for record in records:
                yield _event(record)
    except TimeoutError:
        yield _event(
            {"error": {"message": "the answer took too long", "type": "server_error", "code": "timeout"}}
        )
    except Exception as error:
        yield _event({"error": as_problem(error).to_json()})
    yield "data: [DONE]\n\n"


def _event(record: dict[str, Any]) -> str:
    return f"data: {json.dumps(record, ensure_ascii=False)}\n\n"
