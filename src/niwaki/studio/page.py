"""What a page is, and which there are."""

from __future__ import annotations

import base64
import hashlib
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from niwaki.core.registry import Registry

__all__ = ["PAGES", "Page", "register_page"]

_SCRIPT = re.compile(r"<script>(.*?)</script>", re.S)
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Page(ABC):
    """One page of the studio: `file` as it lies beside the module, and what it asks the server.

    title: in the list of pages
    """

    name: ClassVar[str]
    title: ClassVar[str]
    file: ClassVar[str]

    @abstractmethod
    def routes(self) -> list[Route]:
        """What the page asks, under `/<name>/`."""

    def route(self) -> Route:
        """The page itself."""
        text = (Path(__file__).parent / "pages" / self.file).read_text("utf-8")
        headers = {"Content-Security-Policy": _policy(text), "Referrer-Policy": "no-referrer"}
        headers |= {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}

        async def page(request: Request) -> Response:
            return HTMLResponse(text, headers=headers)

        return Route(f"/{self.name}", page)


def _policy(text: str) -> str:
    """Only the page's own scripts run, by their hashes; nothing is loaded from elsewhere."""
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in _SCRIPT.findall(text)
    ]
    return _POLICY.format(scripts=" ".join(f"'sha256-{one}'" for one in hashes) or "'none'")


PAGES: Registry[Any] = Registry("page", ["niwaki.studio.pages"])
register_page = PAGES.register
