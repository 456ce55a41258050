"""What requests of a trial took, and whether they failed: written when they are answered."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from niwaki.serving.problems import WITHHELD
from niwaki.serving.trial.trial import Trial

__all__ = ["Recording", "give"]

_USER = "niwaki.trial.user"


def give(scope: Scope, user: str) -> None:
    """This request is of the trial, by a user's name in its log."""
    scope[_USER] = user


class Recording:
    """Beneath the counts: it sees the same answers."""

    def __init__(self, app: ASGIApp, trial: Trial | None) -> None:
        self._app, self._trial = app, trial

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._trial is None:
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            user = scope.get(_USER)
            if user is not None:
                seconds = time.perf_counter() - began
                figures = {
                    "errors": float(status >= 400),
                    "slow": float(seconds > self._trial.plan.slow),
                    "withheld": float(scope.get(WITHHELD, 0.0)),
                }
                await asyncio.to_thread(self._trial.add_request, user, figures)
