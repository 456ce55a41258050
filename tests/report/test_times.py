"""Times: a factor where both medians are known well enough, and none where their runs lie too far apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from niwaki.report.cost import bars
from niwaki.report.facts import training_facts
from niwaki.report.gains import headline, lead
from niwaki.report.record import RunRecord
from niwaki.report.times import threads_text
from niwaki.report.words import ms_range_text


def latency(median: float, low: float, high: float) -> dict[str, Any]:
    return {"median_ms": median, "low_ms": low, "high_ms": high, "runs": 30}


STEADY, QUICK = latency(48.0, 46.0, 55.0), latency(4.0, 3.9, 4.4)
NOISY, WILD = latency(60.0, 37.2, 145.0), latency(1.0, 0.5, 4.0)


def run(before: dict[str, Any], after: dict[str, Any], **recipe: Any) -> RunRecord:
    record = RunRecord(Path(), {}, recipe=recipe)
    ways = {"before": before, "after": after}
    record.compression["measured"] = {
        name: {"what": name, "bytes": size, "threads": 2, "latency": {"1": taken}}
        for (name, taken), size in zip(ways.items(), (1000, 100), strict=True)
    }
    return record


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (STEADY, QUICK, "12.0× faster"),
        (QUICK, STEADY, "12.0× slower"),
        (NOISY, QUICK, "uncertain (37 … 145 ms)"),
        (STEADY, WILD, "uncertain (0.50 … 4.00 ms)"),
        (NOISY, WILD, "uncertain (37 … 145 ms → 0.50 … 4.00 ms)"),
        (latency(2.0, 1.0, 2.0), QUICK, "2.00× slower"),  # a factor of two is still told
        (latency(1500.0, 900.0, 2400.0), QUICK, "uncertain (0.90 … 2.40 s)"),
        ({"median_ms": 8.0}, QUICK, "2.00× faster"),  # of an old run, without quartiles
        ({}, QUICK, ""),
    ],
)
def test_a_time_that_is_not_known_makes_no_factor(
    before: dict[str, Any], after: dict[str, Any], change: str
) -> None:
    record = run(before, after)
    (row,) = [row for row in headline(record) if row.label == "Time for one sample"]
    assert row.change == change
    assert row.uncertain == change.startswith("uncertain")
    assert bool(row.hint) == row.uncertain
    factor = change if "×" in change else ""
    said = " ".join(lead(record))
    assert ("faster" in said or "slower" in said) == bool(factor)
    assert factor in said
    assert "10.0× smaller" in said


def test_a_bar_says_that_its_length_is_uncertain() -> None:
    groups = dict(bars(run(NOISY, QUICK)))
    first, second = groups["Time for one sample"]
    assert first.spread == "half of 30 runs: 37.2 ms … 145 ms; uncertain"
    assert second.spread == "half of 30 runs: 3.90 ms … 4.40 ms"


def test_ranges_are_in_the_unit_of_the_larger_end() -> None:
    assert ms_range_text(37.2, 145.3) == "37 … 145 ms"
    assert ms_range_text(0.07, 0.237) == "0.070 … 0.237 ms"
    assert ms_range_text(900.0, 1200.0) == "0.90 … 1.20 s"


@pytest.mark.parametrize(
    ("asked", "text"),
    [(None, " on 2 threads"), (2, " on 2 threads"), (8, " on 2 threads, since on 8 their times were uneven")],
)
def test_fewer_threads_than_were_asked_for_are_explained(asked: int | None, text: str) -> None:
    assert threads_text(run(STEADY, QUICK, export={"threads": asked} if asked else {})) == text
    assert threads_text(RunRecord(Path(), {})) == ""


def test_a_model_that_was_given_has_no_time_in_steps() -> None:
    record = RunRecord(Path(), {}, recipe={})
    record.training |= {"parameters": 2000, "training_seconds": 0.0}
    assert [name for name, _ in training_facts(record)] == ["parameters"]
    record.training["training_seconds"] = 41.9
    assert training_facts(record)[-1] == ("time in steps", "41.9 s")
