"""Where a search stands, from what lies in its directory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from workflow.searching.searches import LIMITS, candidate, enter, run, searched

from niwaki.compression.search.budget import Budget
from niwaki.core.store import read_json
from niwaki.workflow.lock import locked
from niwaki.workflow.searching.clock import Clock
from niwaki.workflow.searching.record import SearchRecord, rows_of
from niwaki.workflow.searching.standing import find_searches, standing_of
from niwaki.workflow.searching.state import ASKED, Search


def test_searches_are_runs_that_hold_one_and_such_runs_within_runs(tmp_path: Path) -> None:
    search, _ = searched(tmp_path)
    assert find_searches([tmp_path / "one", run(tmp_path / "two")]) == [search]
    assert find_searches([search]) == [search]


def test_a_search_that_goes_on_is_read_from_its_candidates_and_a_broken_one_is_left_out(
    tmp_path: Path,
) -> None:
    search, study = searched(tmp_path)
    enter(study, candidate(0.5, 12e3, 0.1, "no loss"))
    (study / "candidates" / "broken").mkdir()
    (study / "candidates" / "broken" / "candidate.json").write_text('{"choices": 3}')
    with locked(search):
        found = standing_of(search)
    assert found.going
    assert [row["origin"] for row in found.candidates] == ["0.5 of the width"]
    assert (found.budget, found.limits, found.seconds, found.chosen) == ("size=20kB", LIMITS, 60.0, None)
    assert not standing_of(search).going


def test_a_search_that_has_ended_is_read_from_its_record_until_it_goes_on(tmp_path: Path) -> None:
    search, study = searched(tmp_path)
    best = candidate(0.75, 18e3, 0.3, "no loss")
    rows = rows_of({best.name: best}, LIMITS, tuple(LIMITS))
    SearchRecord(limits=LIMITS, candidates=rows, chosen=best.name, spent=41.0).write(search)
    found = standing_of(search)
    assert (found.chosen, found.spent) == (best.name, 41.0)
    enter(study, candidate(0.5, 12e3, 1.6, "loss"))
    with locked(search):
        again = standing_of(search)
    assert again.chosen is None
    assert [row["origin"] for row in again.candidates] == ["0.5 of the width"]


def test_what_was_asked_for_lies_beside_the_candidates(tmp_path: Path) -> None:
    clock = Clock(60.0)
    found = SimpleNamespace(path=tmp_path, budget=Budget.parse("size=20kB"), limits=LIMITS, clock=clock)
    Search.tell_asked(cast(Any, found))
    record = read_json(tmp_path / ASKED)
    assert record["began"] > 1e9
    assert {k: v for k, v in record.items() if k != "began"} == {
        "budget": "size=20kB", "limits": LIMITS, "seconds": 60.0,
    }  # fmt: skip
