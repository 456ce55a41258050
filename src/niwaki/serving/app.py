"""The application: routes, keys, counts, and errors in one form."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from niwaki.serving.keys import KeyCheck
from niwaki.serving.metrics import Metrics
from niwaki.serving.problems import handlers
from niwaki.serving.routes import ROUTES
from niwaki.serving.service import Service
from niwaki.serving.trial.recording import Recording

__all__ = ["application"]

_log = logging.getLogger("niwaki.serving")


def application(service: Service) -> Starlette:
    """What a server of any kind runs (ASGI)."""

    @asynccontextmanager
    async def life(app: Any) -> AsyncIterator[None]:
        await service.models.start()
        try:
            yield
        finally:
            await service.models.close()
            if service.trial is not None:
                service.trial.close()

    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(Counted, metrics=service.metrics),
            Middleware(KeyCheck, keys=service.settings.keys),
            Middleware(Recording, trial=service.trial),
        ],
        exception_handlers=handlers,
        lifespan=life,
    )
    app.state.service = service
    return app


class Counted:
    """Counts every answer under its route, as it is written there: paths of no route have one name."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
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
            seconds = time.perf_counter() - began
            self._metrics.request(_route(scope), status, seconds)
            _log.debug("%s %s %d %.1f ms", scope["method"], scope["path"], status, 1000 * seconds)


def _route(scope: Scope) -> str:
    route = scope.get("route")
    return str(getattr(route, "path", "other"))
