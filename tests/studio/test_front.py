"""The page of a search: its front, while it grows and when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workflow.searching.searches import LIMITS, candidate, enter, searched

from niwaki.workflow.lock import locked
from niwaki.workflow.searching.record import SearchRecord, rows_of


def test_the_front_grows_while_the_search_goes_on(opened: Callable[..., Any], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    search, study = searched(runs)
    server = opened(runs)
    assert server.client.get("/front/searches").json() == {"searches": [str(search)]}
    with locked(search):
        first = server.post("/front/state", search=str(search)).json()
        assert first["going"]
        assert first["candidates"] == []
        assert first["told"].startswith("0 plans tried")
        enter(study, candidate(0.5, 12e3, 1.6, "loss"))
        enter(study, candidate(0.75, 18e3, 0.3, "no loss"))
        enter(study, candidate(0.8, 19e3, 0.4, "inconclusive"))
        found = server.post("/front/state", search=str(search)).json()
    assert found["limits"] == LIMITS
    by = {one["origin"]: one for one in found["candidates"]}
    assert {name: one["kind"] for name, one in by.items()} == {
        "0.5 of the width": "loss", "0.75 of the width": "no loss", "0.8 of the width": "undecided",
    }  # fmt: skip
    assert [one["front"] for one in by.values()].count(False) == 1
    assert not by["0.8 of the width"]["front"]
    assert by["0.75 of the width"]["words"]["size"] == "18 kB"
    assert by["0.75 of the width"]["measured"] == ["size"]
    assert by["0.5 of the width"]["values"]["lost"] == pytest.approx(1.6)


def test_a_search_that_has_ended_says_what_it_chose(opened: Callable[..., Any], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    search, _ = searched(runs)
    best = candidate(0.75, 18e3, 0.3, "no loss")
    rows = rows_of({best.name: best}, LIMITS, tuple(LIMITS))
    record = SearchRecord(
        budget="size=20kB", limits=LIMITS, candidates=rows, chosen=best.name, seconds=60.0, spent=41.0
    )
    record.write(search)
    server = opened(runs)
    found = server.post("/front/state", search=str(search)).json()
    assert not found["going"]
    assert found["told"] == "1 plan tried in 41.0 s of 60.0 s; one was chosen"
    assert found["candidates"][0]["chosen"]


def test_other_directories_are_not_read(opened: Callable[..., Any], tmp_path: Path) -> None:
    searched(tmp_path / "runs")
    assert opened(tmp_path / "runs").post("/front/state", search=str(tmp_path)).status_code == 400
