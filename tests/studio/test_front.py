"""The page of a search: its front, while it grows and when it has ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from studio.test_runs import run

from niwaki.compression.search.choices import Choices
from niwaki.core.store import write_json
from niwaki.workflow.lock import locked
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.record import SearchRecord, rows_of
from niwaki.workflow.searching.rehearsal import Loss
from niwaki.workflow.searching.standing import find_searches, standing_of
from niwaki.workflow.searching.state import ASKED

LIMITS = {"size": 20e3, "latency": 0.5}


def candidate(ratio: float, size: float, value: float, outcome: str) -> Candidate:
    losses = {"fidelity": Loss(value, (value - 0.2, value + 0.2), outcome)}
    made = Candidate(Choices({"stem": ratio}, {"stem": 8}, origin=f"{ratio:g} of the width"))
    made.predicted, made.losses = {"latency": size / 50e3}, losses
    made.measured = {"size": size}
    return made


def searched(runs: Path, name: str = "one") -> tuple[Path, Path]:
    """A run with a search that goes on, and the search's study."""
    search = run(run(runs / name) / "search")
    study = search / "study" / "0123"
    study.mkdir(parents=True)
    (study / ASKED).write_text(
        json.dumps({"budget": "size=20kB", "limits": LIMITS, "seconds": 60, "began": 0})
    )
    return search, study


def enter(study: Path, made: Candidate) -> None:
    write_json(study / "candidates" / made.name / "candidate.json", made)


def test_the_front_grows_while_the_search_goes_on(opened: Callable[..., Any], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    search, study = searched(runs)
    assert find_searches([runs / "one"]) == [search]
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
    assert standing_of(search).chosen == best.name


def test_a_broken_candidate_is_left_out_and_other_directories_are_not_read(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    search, study = searched(runs)
    enter(study, candidate(0.5, 12e3, 0.1, "no loss"))
    (study / "candidates" / "broken").mkdir()
    (study / "candidates" / "broken" / "candidate.json").write_text('{"choices": 3}')
    found = standing_of(search)
    assert [row["origin"] for row in found.candidates] == ["0.5 of the width"]
    assert asdict(found)["seconds"] == 60
    assert opened(runs).post("/front/state", search=str(tmp_path)).status_code == 400
