"""What a model covers and what compression damaged most, from the records of a run: coverage of each class,
lost modes, and the pairs of samples that moved furthest."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import jsonable
from niwaki.report.gallery import damage_gallery, no_pairs
from niwaki.report.judgement import class_coverage, verdicts
from niwaki.report.modes import modes
from niwaki.report.moved import moved_of, moved_texts
from niwaki.report.record import RunRecord, read_run
from niwaki.report.records import EvaluationRecord
from niwaki.serving.requests import body_of
from niwaki.serving.settings import Limits
from niwaki.studio.page import Page, register_page

__all__ = ["Coverage"]

_LIMITS = Limits(body=1 << 14)


@register_page("coverage")
class Coverage(Page):
    """A run is called by its directory; only those of the studio's call are read."""

    title = "Coverage"
    order = 35

    def lacks(self) -> str:
        return "" if self._evaluated() else "No run here was evaluated yet: niwaki evaluate RUN does it."

    def _evaluated(self) -> list[Path]:
        return [path for path in self.sources.runs() if (path / EvaluationRecord.file).is_file()]

    def routes(self) -> list[Route]:
        return [
            Route("/coverage/runs", self._runs),
            Route("/coverage/state", self._state, methods=["POST"]),
        ]

    async def _runs(self, request: Request) -> Response:
        return JSONResponse({"runs": [str(path) for path in await asyncio.to_thread(self._evaluated)]})

    async def _state(self, request: Request) -> Response:
        """`run`: its directory."""
        body = await body_of(request, _LIMITS)
        return JSONResponse(await asyncio.to_thread(self._found, body.get("run")))

    def _found(self, asked: Any) -> dict[str, Any]:
        known = {str(path): path for path in self._evaluated()}
        if asked not in known:
            raise CallError(f"there is no evaluated run '{asked!s:.80}' here")
        record = read_run(known[asked])
        found: dict[str, Any] = jsonable(
            {
                "name": record.name,
                "compared": bool(record.evaluation.get("bundle")),
                "coverage": class_coverage(record),
                "verdicts": [
                    {"axis": one.axis, "badge": one.badge, "tone": one.tone, "text": one.text}
                    for one in verdicts(record.comparison)
                ],
                "moved": moved_texts(moved_of(record)),
                "damage": _damage(record),
                "no_pairs": no_pairs(record),
                "modes": modes(record),
            }
        )
        return found


def _damage(record: RunRecord) -> dict[str, Any]:
    """The pairs that changed most and some usual ones; empty where nothing was compared."""
    try:
        found = damage_gallery(record)
    except (KeyError, ValueError) as error:  # arrays that do not fit to each other
        raise NiwakiError(f"the samples of {record.path} cannot be compared: {error}") from None
    chart = found.pop("chart", None)
    return {**found, "chart": None if chart is None else asdict(chart)}
