"""What a page is, and which there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from niwaki.core.registry import Registry
from niwaki.studio.document import Link, document
from niwaki.studio.invitation import GUEST
from niwaki.studio.sources import Sources

__all__ = ["PAGES", "Page", "register_page"]

_HERE = Path(__file__).parent / "pages"


class Page(ABC):
    """One page of the studio: a file `<name>.html` beside its module, and what it asks the server.

    title:   in the navigation bar
    order:   of the pages, the first first
    scripts: further files beside it that its own script uses
    """

    name: ClassVar[str]
    title: ClassVar[str]
    order: ClassVar[int]
    scripts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, sources: Sources) -> None:
        self.sources = sources

    @abstractmethod
    def lacks(self) -> str:
        """Why it has nothing to show of its sources as they are now, in a sentence; empty where it has. May
        take a moment: it is called beside the loop."""

    def leads(self) -> bool:
        """Whether the studio begins with it, of those that have something to show."""
        return False

    @abstractmethod
    def routes(self) -> list[Route]:
        """What the page asks, under `/<name>/`."""

    def route(self, links: Callable[[Page], Sequence[Link]]) -> Route:
        """The page itself. links: to the pages that have something to show, called beside the loop"""

        async def page(request: Request) -> Response:
            guest = request.scope.get(GUEST, False)
            found = await run_in_threadpool(lambda: (self.lacks(), [] if guest else links(self)))
            body = (_HERE / f"{self.name}.html").read_text("utf-8")
            scripts = [(_HERE / name).read_text("utf-8") for name in self.scripts]
            text, headers = document(self.title, body, scripts, found[1], found[0])
            return HTMLResponse(text, headers=headers)

        return Route(f"/{self.name}", page)


PAGES: Registry[Any] = Registry("page", ["niwaki.studio.pages"])
register_page = PAGES.register
