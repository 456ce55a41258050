"""Who may see pages that other machines can reach: who brings the word of the invitation, once in the
address, then as a cookie."""

from __future__ import annotations

import hmac
from http.cookies import SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Invitation"]

NAME = "invitation"


class Invitation:
    """word: that callers bring; empty lets everybody in"""

    def __init__(self, app: ASGIApp, word: str) -> None:
        self._app, self._word = app, word

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._word:
            await self._app(scope, receive, send)
            return
        brought = parse_qs(scope["query_string"].decode("latin-1")).get(NAME, [""])[-1]
        if not self._right(brought) and not self._right(_cookie(scope)):
            text = "ask for the whole address of this page, with its invitation"
            await PlainTextResponse(text, 403)(scope, receive, send)
            return

        async def remembering(message: Message) -> None:
            if message["type"] == "http.response.start" and brought:
                cookie = f"{NAME}={self._word}; Path=/; HttpOnly; SameSite=Strict"
                message = {**message, "headers": [*message["headers"], (b"set-cookie", cookie.encode())]}
            await send(message)

        await self._app(scope, receive, remembering)

    def _right(self, word: str) -> bool:
        return hmac.compare_digest(word.encode(), self._word.encode())


def _cookie(scope: Scope) -> str:
    cookies: SimpleCookie = SimpleCookie()
    for name, value in scope["headers"]:
        if name == b"cookie":
            cookies.load(value.decode("latin-1"))
    return cookies[NAME].value if NAME in cookies else ""
