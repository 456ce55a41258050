"""The studio: pages on one port of this machine."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from niwaki.core.errors import CallError
from niwaki.serving.listening import Listener
from niwaki.serving.problems import handlers
from niwaki.serving.settings import is_loopback
from niwaki.studio.invitation import NAME, Invitation
from niwaki.studio.page import Page

__all__ = ["Studio", "studio_app"]


def studio_app(pages: Sequence[Page], invitation: str = "") -> Starlette:
    """The first page answers at `/`, too. Raises CallError without pages."""
    if not pages:
        raise CallError("the studio has no page to show")

    async def first(request: Request) -> Response:
        return RedirectResponse(f"/{pages[0].name}?{request.url.query}".rstrip("?"))

    routes = [Route("/", first)]
    for page in pages:
        routes += [page.route(), *page.routes()]
    middleware = [Middleware(Invitation, word=invitation)]
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


class Studio:
    """Pages that are served until a signal comes, or `stop`.

    address: where; for others than this machine with an invitation, a random word that is new every time
    """

    def __init__(self, pages: Sequence[Page], host: str, port: int) -> None:
        """Raises NiwakiError for a taken port."""
        word = "" if is_loopback(host) else secrets.token_urlsafe(12)
        app = studio_app(pages, word)
        self._listener = Listener(host, port)
        self._listener.answer_with(app, grace=5.0)
        self.address = self._listener.address + (f"/?{NAME}={word}" if word else "")

    def run(self, told: Callable[[str], None] = lambda address: None) -> None:
        self._listener.run(lambda _: told(self.address))

    def stop(self) -> None:
        self._listener.stop()
