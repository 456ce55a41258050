"""Who may see pages that other machines can reach: who brings the word of the invitation, once in the
address, then as a cookie."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from http.cookies import SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["GUEST", "NAME", "Invitation"]

NAME = "invitation"
GUEST = "niwaki.guest"
"""In the scope of a request: whether who asks is invited to a part alone."""


class Invitation:
    """words: that callers bring, each with the path that it opens, `/` for all; none let everybody in"""

    def __init__(self, app: ASGIApp, words: Mapping[str, str]) -> None:
        self._app, self._words = app, dict(words)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._words:
            await self._app(scope, receive, send)
            return
        brought = parse_qs(scope["query_string"].decode("latin-1")).get(NAME, [""])[-1]
        word = self._known(brought) or ("" if brought else self._known(_cookie(scope)))
        opens = self._words.get(word, "")
        if not opens or not f"{scope['path']}/".startswith(f"{opens.rstrip('/')}/"):
            text = "ask for the whole address of this page, with its invitation"
            await PlainTextResponse(text, 403)(scope, receive, send)
            return

        async def remembering(message: Message) -> None:
            if message["type"] == "http.response.start" and brought:
                cookie = f"{NAME}={word}; Path=/; HttpOnly; SameSite=Strict"
                message = {**message, "headers": [*message["headers"], (b"set-cookie", cookie.encode())]}
            await send(message)

        await self._app({**scope, GUEST: opens != "/"}, receive, remembering)

    def _known(self, word: str) -> str:
        """The word that was brought, compared in a time that does not tell; empty for another."""
        same = [one for one in self._words if hmac.compare_digest(word.encode(), one.encode())]
        return same[0] if same else ""


def _cookie(scope: Scope) -> str:
    cookies: SimpleCookie = SimpleCookie()
    for name, value in scope["headers"]:
        if name == b"cookie":
            cookies.load(value.decode("latin-1"))
    return cookies[NAME].value if NAME in cookies else ""
