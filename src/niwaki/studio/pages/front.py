"""The front of a search: what every plan that was tried costs and what it lost, while the search goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from niwaki.compression.search.budget import cost_text
from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.report.words import seconds_text
from niwaki.serving.requests import body_of
from niwaki.serving.settings import Limits
from niwaki.studio.page import Page, register_page
from niwaki.workflow.searching.standing import Standing, standing_of

__all__ = ["Front"]

_LIMITS = Limits(body=1 << 14)
_WORST = "lost"
"""Beside costs: margins lost on the worse axis."""


@register_page("front")
class Front(Page):
    """A search is called by its directory; only those in the runs of the studio's call are read."""

    title = "Search"
    order = 30
    scripts = ("chart.js",)

    def lacks(self) -> str:
        return "" if self.sources.searches() else "No run here was searched, and none is being searched."

    def routes(self) -> list[Route]:
        return [
            Route("/front/searches", self._searches),
            Route("/front/state", self._state, methods=["POST"]),
        ]

    async def _searches(self, request: Request) -> Response:
        return JSONResponse({"searches": [str(p) for p in await asyncio.to_thread(self.sources.searches)]})

    async def _state(self, request: Request) -> Response:
        """`search`: its directory. Points of the front, the best first, and where it stands."""
        body = await body_of(request, _LIMITS)
        return JSONResponse(await asyncio.to_thread(self._stands, body.get("search")))

    def _stands(self, asked: Any) -> dict[str, Any]:
        known: dict[str, Path] = {str(path): path for path in self.sources.searches()}
        if asked not in known:
            raise CallError(f"there is no search '{asked!s:.80}' here")
        found = standing_of(known[asked])
        rows = [row for row in found.candidates if row["losses"]]
        keys = list(dict.fromkeys([*found.limits, *(key for row in rows for key in row["costs"])]))
        named = {"going": found.going, "budget": found.budget, "limits": found.limits, "text": found.text}
        record: dict[str, Any] = jsonable(
            {
                **named,
                "told": _told(found, len(rows)),
                "costs": {key: _title(key) for key in keys} | {_WORST: "margins lost on the worse axis"},
                "candidates": [_candidate(row, found) for row in rows],
                "failed": [row["reason"] for row in found.candidates if row["reason"] and not row["losses"]],
            }
        )
        return record


def _candidate(row: dict[str, Any], found: Standing) -> dict[str, Any]:
    """One plan: its values on every axis, in words and in numbers."""
    outcomes = {loss["outcome"] for loss in row["losses"].values()}
    worst = max(loss["value"] for loss in row["losses"].values())
    return {
        "name": row["name"],
        "origin": row["origin"],
        "values": {**row["costs"], _WORST: max(worst, 0.0)},
        "words": {key: cost_text(key, value) for key, value in row["costs"].items()},
        "measured": row["measured"],
        "losses": {
            axis: {"text": f"{loss['value']:+.2f}", "outcome": loss["outcome"], "interval": loss["interval"]}
            for axis, loss in row["losses"].items()
        },
        "kind": "loss" if "loss" in outcomes else "no loss" if outcomes == {"no loss"} else "undecided",
        "inside": row["inside"],
        "front": row["front"],
        "chosen": row["name"] == found.chosen,
        "trained": row["trained"],
        "at": row.get("at", 0.0),
    }


def _title(key: str) -> str:
    cost, _, batch = key.partition("@")
    unit = {"size": " (kB)", "memory": " (MB)", "latency": " (ms)"}.get(cost, "")
    return f"{cost}{unit}" + (f" at batch {batch}" if batch else "")


def _told(found: Standing, tried: int) -> str:
    """Where it stands, in a sentence."""
    plans = f"{tried} plan{'s' if tried != 1 else ''} tried"
    of = f" of {seconds_text(found.seconds)}" if found.seconds else ""
    if found.going:
        return f"{plans}, {seconds_text(found.spent)}{of}"
    if found.chosen:
        return f"{plans} in {seconds_text(found.spent)}{of}; one was chosen"
    return f"{plans} in {seconds_text(found.spent)}{of}; " + (
        "none was chosen" if found.text else "the search has not ended"
    )
