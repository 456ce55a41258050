"""A page of the studio as HTML: navigation bar, styles and scripts in one document that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from niwaki import report

__all__ = ["Link", "document"]

_HERE, _REPORT = Path(__file__).parent, Path(report.__file__).parent
_STYLES = (_REPORT / "palette.css", _REPORT / "slider.css", _HERE / "pages" / "common.css")
_SCRIPTS = (_REPORT / "slider.js", _HERE / "pages" / "common.js")
_STYLE, _SCRIPT = re.compile(r"<style>(.*?)</style>", re.S), re.compile(r"<script>(.*?)</script>", re.S)
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
    "media-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Link:
    """In the navigation bar. here: whether it is the page that is shown"""

    address: str
    title: str
    here: bool = False


def document(
    title: str, body: str, scripts: Sequence[str], links: Sequence[Link], lack: str = ""
) -> tuple[str, dict[str, str]]:
    """The page and its headers.

    body:    of the page's own file: one element `style`, its elements, and one `script`
    scripts: that its own uses
    lack:    why there is nothing to show; it then stands in the place of the body
    """
    styles = [file.read_text("utf-8") for file in _STYLES] + _STYLE.findall(body)
    codes = [file.read_text("utf-8") for file in _SCRIPTS] + [*scripts, *_SCRIPT.findall(body)]
    shown = _SCRIPT.sub("", _STYLE.sub("", body)).strip()
    if lack:
        codes, shown = (
            [],
            f'<main id="main"><h1>{escape(title)}</h1><p class="empty">{escape(lack)}</p></main>',
        )
    code = "\n".join(codes)
    bar = "".join(
        f'<a href="{escape(one.address)}"{" aria-current=page" if one.here else ""}>{escape(one.title)}</a>'
        for one in links
    )
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} · niwaki studio</title>
<style>{"".join(styles)}</style>
</head>
<body>
<a class="skip" href="#main">To the page</a>
<nav class="bar" aria-label="Pages"><span class="mark">niwaki</span>{bar}</nav>
{shown}
<div id="said" class="hidden" aria-live="polite"></div>
<script>{code}</script>
</body>
</html>
"""
    return text, {
        "Content-Security-Policy": _policy(code),
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }


def _policy(code: str) -> str:
    """Only the page's own script runs, by its hash; nothing is loaded from elsewhere."""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return _POLICY.format(scripts=f"'sha256-{digest}'")
