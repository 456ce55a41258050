"""The plans that a search tried, as the report shows them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from niwaki.core.store import write_json
from niwaki.report import write_report
from niwaki.report.found_plans import found_plans
from niwaki.report.record import read_run


def row(name: str, size: float, outcome: str, value: float, **more: Any) -> dict[str, Any]:
    loss = {"value": value, "interval": [value - 0.2, value + 0.2], "outcome": outcome, "needed": None}
    return {
        "name": name, "origin": f"plan <{name}>", "costs": {"size": size, "latency": size / 1e5},
        "measured": ["size"], "losses": {"fidelity": loss}, "lossless": outcome == "no loss",
        "inside": size <= 30e3, "front": True, "trained": 1200, "bundled": True, "history": [], "reason": "",
        **more,
    }  # fmt: skip


SEARCH = {
    "budget": "size=30kB",
    "limits": {"size": 30e3},
    "before": {"size": 1e6, "latency": 3.0},
    "candidates": [row("a", 22.5e3, "no loss", 0.3), row("b", 40e3, "loss", 2.5)],
    "chosen": "a",
    "meets": True,
    "refusal": {},
    "explanation": {},
    "remedies": [],
    "prices": {"size": "median error 1.0%"},
    "seconds": 300.0,
    "spent": 250.0,
}


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    made = tmp_path / "run"
    shutil.copytree(finished, made)
    return made


def test_a_run_that_was_not_searched_has_no_such_part(run: Path) -> None:
    assert found_plans(read_run(run)) is None
    assert "Plans that were tried" not in write_report(run).read_text()


def test_plans_have_their_costs_and_losses_and_the_chosen_one_is_marked(run: Path) -> None:
    write_json(run / "search.json", SEARCH)
    found = found_plans(read_run(run))
    assert found is not None
    first, second = found.rows
    assert (first.mark, second.mark) == ("chosen", "front")
    assert first.costs == (("22.5 kB", ""),)
    assert second.costs == (("40 kB", "bad"),)
    assert first.losses == (("+0.30 (+0.10 … +0.50)", "good"),)
    assert second.losses[0][1] == "bad"
    page = write_report(run).read_text()
    assert "Plans that were tried" in page
    assert "plan &lt;a&gt;" in page  # names are text, never markup


def test_a_refusal_is_told_with_its_reason_and_remedy(run: Path) -> None:
    refused = {
        **SEARCH, "chosen": None, "meets": False, "refusal": {"text": "Nothing met it."},
        "explanation": {"text": "quantize 0.9."}, "remedies": [{"text": "'stem' with 8 bits: size 33 kB"}],
    }  # fmt: skip
    write_json(run / "search.json", refused)
    found = found_plans(read_run(run))
    assert found is not None
    assert "none met size=30kB" in found.gist
    assert found.sentences[:2] == ("Nothing met it.", "quantize 0.9.")
    assert "'stem' with 8 bits" in found.sentences[2]
