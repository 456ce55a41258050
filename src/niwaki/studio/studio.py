"""The studio: pages on one port of this machine."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from niwaki.core.errors import CallError
from niwaki.serving.listening import Listener
from niwaki.serving.problems import handlers
from niwaki.serving.settings import is_loopback
from niwaki.studio.document import Link
from niwaki.studio.invitation import NAME, Invitation
from niwaki.studio.page import PAGES, Page
from niwaki.studio.sources import Sources

__all__ = ["Studio", "pages_of", "studio_app"]

RATERS = "/rate"
"""What those may see who are invited to rate: all else would tell them who made which sample."""


def pages_of(sources: Sources) -> list[Page]:
    """Every registered page, in their order."""
    return sorted((PAGES[name](sources) for name in PAGES.names()), key=lambda page: page.order)


def studio_app(pages: Sequence[Page], invitations: Mapping[str, str] | None = None) -> Starlette:
    """At `/` the page that leads, else the first that has something to show.

    invitations: as of `Invitation`
    Raises CallError without pages.
    """
    if not pages:
        raise CallError("the studio has no page to show")

    def showing() -> list[Page]:
        return [page for page in pages if not page.lacks()]

    def links(here: Page) -> list[Link]:
        return [Link(page.name, page.title, page is here) for page in showing()]

    async def first(request: Request) -> Response:
        shown = await run_in_threadpool(showing) or [pages[0]]
        leading = next((page for page in shown if page.leads()), shown[0])
        return RedirectResponse(f"/{leading.name}?{request.url.query}".rstrip("?"))

    routes = [Route("/", first)]
    for page in pages:
        routes += [page.route(links), *page.routes()]
    middleware = [Middleware(Invitation, words=invitations or {})]
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


class Studio:
    """Pages that are served until a signal comes, or `stop`.

    address: where; for others than this machine with an invitation, a random word that is new every time
    raters:  where those go who rate blind pairs and are to see nothing else; empty where only this machine
             reaches the pages
    """

    def __init__(self, sources: Sources, host: str, port: int) -> None:
        """Raises NiwakiError for a taken port."""
        whole, raters = ("", "") if is_loopback(host) else (secrets.token_urlsafe(12) for _ in range(2))
        app = studio_app(pages_of(sources), {whole: "/", raters: RATERS} if whole else {})
        self._listener = Listener(host, port)
        self._listener.answer_with(app, grace=5.0)
        base = self._listener.address
        self.address = base + (f"/?{NAME}={whole}" if whole else "")
        self.raters = f"{base}{RATERS}?{NAME}={raters}" if raters and len(sources.contestants()) > 1 else ""

    def run(self, told: Callable[[str], None] = lambda address: None) -> None:
        """told: called with the address, and with that of the raters where there is one"""

        def tell(_: str) -> None:
            told(self.address)
            if self.raters:
                told(self.raters)

        self._listener.run(tell)

    def stop(self) -> None:
        self._listener.stop()
