"""Our docstrings as Markdown: lines `name: what it is` become a list, what follows them a paragraph again.

Named in mkdocs.yml; the pages are made from the source, without importing it.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_NAMED = re.compile(r"^(\*{0,2}[a-z_][\w, ./*`]{0,40}?):\s+(\S.*)$")
_ENDS = re.compile(r"^(Raises|Returns)\b")


class DocstringLists(griffe.Extension):
    """Rewrites every docstring that is shown."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        _rewrite(func)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        _rewrite(cls)


def _rewrite(thing: griffe.Object) -> None:
    if thing.docstring is not None:
        thing.docstring.value = as_markdown(thing.docstring.value)


def as_markdown(text: str) -> str:
    """One docstring, its indentation taken away already."""
    out: list[str] = []
    within = False
    for line in text.splitlines():
        named = _NAMED.match(line)
        if named:
            out += [] if within else [""]
            out.append(f"- **{named[1].strip()}**: {named[2]}")
            within = True
        elif within and line.startswith(" "):
            out[-1] += " " + line.strip()
        else:
            if line.strip() and (within or _ENDS.match(line)):
                out.append("")
            within = False
            out.append(line)
    return "\n".join(out)
