"""The tables that `run`, `compress` and `compare` end with: in the words of the page."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from niwaki.cli.judged import draw_comparison
from niwaki.cli.table import draw_summary
from niwaki.core.store import read_json, write_json
from niwaki.report.record import read_run


def said(draw: Callable[[Console, Any], None], found: dict[str, Any]) -> str:
    file = io.StringIO()
    draw(Console(file=file, width=400), found)
    return " ".join(file.getvalue().split())


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def summary(run: Path) -> dict[str, Any]:
    record = read_run(run)
    return {
        "run": run, "name": "digits-gan", "measured": record.measured, "verdict": record.comparison,
        "bundle": run / "b.niwaki", "report": run / "report.html",
    }  # fmt: skip


def comparison(run: Path, **verdict: Any) -> dict[str, Any]:
    record = read_run(run)
    verdicts = {axis: {**record.comparison[axis], **verdict} for axis in ("fidelity", "diversity")}
    sources = {
        side: {"path": side, "n": 180, "seed": 0, "broken": [], "remarks": []} for side in ("before", "after")
    }
    return {
        "before": record.evaluation["trained"], "after": record.evaluation["bundle"],
        "sections": {"before": [], "after": []}, "verdict": verdicts, "comparison": {}, "sources": sources,
        "n": 180, "paired": True, "fitness": {},
    }  # fmt: skip


def test_the_summary_shows_what_was_tested_and_what_else_moved(run: Path) -> None:
    text = said(draw_summary, summary(run))
    assert "Fidelity 0.810 0.720 a small loss, inside the margin" in text
    assert "Diversity 0.810 0.786 inconclusive" in text
    interval = "(95 % interval of the loss 0.0010 … 0.0580), margin 0.0500"
    assert f"Diversity: rarefied coverage fell by 0.0240 {interval}" in text
    assert "No other figure moved beyond its 95 % interval." in text


def test_an_uneven_time_makes_no_factor_on_the_terminal(run: Path) -> None:
    compression = read_json(run / "compression.json")
    compression["measured"]["before"]["latency"]["1"] |= {"low_ms": 37.0, "high_ms": 145.0}
    write_json(run / "compression.json", compression)
    text = said(draw_summary, summary(run))
    assert "Time for one sample 1.42 ms 0.094 ms uncertain (37 … 145 ms)" in text
    assert "15.1× faster" not in text
    assert "15.4× faster" in text, "of 16 samples, which is steady"


def test_a_comparison_names_its_statistic_and_what_fell(run: Path) -> None:
    found = comparison(run)
    recall = found["after"]["classifier"]["recall"]
    found["after"]["classifier"]["recall"] = {**recall, "value": 0.7, "interval": [0.68, 0.72]}
    text = said(draw_comparison, found)
    assert "verdict tested by before after loss interval margin" in text
    assert "fidelity rarefied coverage a small loss, inside the margin 0.810 0.720 0.0900" in text
    assert "Worse beyond the 95 % intervals: Recall in ‘classifier’ fell: 0.902 → 0.700." in text


def test_what_is_grey_in_the_table_is_not_said_to_have_moved(run: Path) -> None:
    found = comparison(run)
    recall = found["after"]["classifier"]["recall"]
    found["after"]["classifier"]["recall"] = {**recall, "value": 0.7, "interval": [0.68, 0.72]}
    found["fitness"] = {"classifier": {"fit": True, "text": "", "distrusted": {"recall": ["copies"]}}}
    assert "No other figure moved" in said(draw_comparison, found)


def test_a_verdict_without_figures_is_told_all_the_same(run: Path) -> None:
    bare = {"outcome": "inconclusive", "text": "Nothing could be tested."}
    found = {**comparison(run), "verdict": {"fidelity": bare}}
    text = said(draw_comparison, found)
    assert "fidelity inconclusive not measured not measured" in text
    assert "Nothing could be tested." in text
