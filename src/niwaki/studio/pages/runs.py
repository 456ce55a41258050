"""Runs beside each other: their table, their courses in training, also of those that train now, and the
settings that tell them apart."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.report.run_curves import names_of
from niwaki.report.run_table import run_table, value_text
from niwaki.serving.requests import body_of
from niwaki.serving.settings import Limits
from niwaki.studio.page import Page, register_page
from niwaki.workflow.lock import is_locked
from niwaki.workflow.runs.comparing import settings_that_differ
from niwaki.workflow.runs.following import rows_since
from niwaki.workflow.runs.listing import Line, line_of
from niwaki.workflow.subjects.subject import kind_of

__all__ = ["Runs"]

_LIMITS = Limits(body=1 << 16)
_MOST = 24
"""Runs whose courses are shown at once."""


@register_page("runs")
class Runs(Page):
    """Runs are called by their directories; only those of the studio's call are read."""

    title = "Runs"
    order = 20
    scripts = ("chart.js",)

    def lacks(self) -> str:
        return "" if self.leads() or self.sources.runs() else "Neither a run nor a folder of runs was named."

    def leads(self) -> bool:
        """Where a folder of runs was named."""
        return any(kind_of(one.path) == "folder" for one in self.sources.given)

    def routes(self) -> list[Route]:
        return [
            Route("/runs/table", self._table),
            Route("/runs/courses", self._courses, methods=["POST"]),
            Route("/runs/differences", self._differences, methods=["POST"]),
        ]

    async def _table(self, request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._tabled))

    def _tabled(self) -> dict[str, Any]:
        """Titles, and of every run its cells, its directory, and whether a process works in it now."""
        lines = [line_of(path) for path in self.sources.runs()]
        titles, rows = run_table([{**line.to_json(), "path": line.name} for line in lines])
        places = [str(line.path) for line in lines]
        return {
            "titles": titles[1:],
            "runs": [
                {
                    "path": place,
                    "name": name,
                    "cells": row[1:],
                    "going": is_locked(line.path),
                    "done": line.status == "done",
                }
                for line, place, name, row in zip(lines, places, _apart(lines), rows, strict=True)
            ],
        }

    async def _courses(self, request: Request) -> Response:
        """`runs`: directory → the byte that the answer before ended with, 0 at first."""
        body = await body_of(request, _LIMITS)
        asked = body.get("runs")
        if not isinstance(asked, Mapping) or not all(isinstance(at, int) for at in asked.values()):
            raise CallError("'runs' must be a table of directories and bytes")
        return JSONResponse(await asyncio.to_thread(self._news, dict(asked)))

    def _news(self, asked: Mapping[str, int]) -> dict[str, Any]:
        news: dict[str, Any] = {}
        for path in self._known(list(asked)):
            rows, at, anew = rows_since(path, max(0, asked[str(path)]))
            found = [{k: v for k, v in row.items() if _is_finite(v)} for row in rows]
            news[str(path)] = {"rows": found, "at": at, "anew": anew, "going": is_locked(path)}
        return {"runs": news, "names": names_of({path: one["rows"] for path, one in news.items()})}

    async def _differences(self, request: Request) -> Response:
        """`runs`: directories; settings that are not the same in all of them, with a value for each."""
        body = await body_of(request, _LIMITS)
        paths = self._known(body.get("runs"))
        found = await asyncio.to_thread(lambda: settings_that_differ([line_of(path) for path in paths]))
        return JSONResponse(
            {"settings": {key: [value_text(v) for v in values] for key, values in found.items()}}
        )

    def _known(self, asked: Any) -> list[Path]:
        """Raises CallError for directories that are not among the studio's."""
        if not isinstance(asked, list) or not 0 < len(asked) <= _MOST:
            raise CallError(f"1 … {_MOST} runs are shown at once")
        known = {str(path): path for path in self.sources.runs()}
        for path in asked:
            if path not in known:
                raise CallError(f"there is no run '{path!s:.80}' here")
        return [known[path] for path in asked]


def _apart(lines: list[Line]) -> list[str]:
    """Names, with the directory behind those that several runs have."""
    names = [line.name for line in lines]
    return [
        name if names.count(name) == 1 else f"{name} ({line.path})"
        for name, line in zip(names, lines, strict=True)
    ]


def _is_finite(value: Any) -> bool:
    return jsonable(value) is not None and not (isinstance(value, float) and not math.isfinite(value))
