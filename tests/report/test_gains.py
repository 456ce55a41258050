"""What the headline says when several judges have spoken."""

from __future__ import annotations

from pathlib import Path

import pytest

from niwaki.report.gains import lead, other_verdicts
from niwaki.report.record import RunRecord


def record(**likelihood: str) -> RunRecord:
    made = RunRecord(Path(), {})
    samples = {
        axis: {"outcome": "no loss", "judge": "samples", "text": axis} for axis in ("fidelity", "diversity")
    }
    made.evaluation = {"comparison": samples}
    made.verdicts = {
        "samples": {"axes": samples},
        "likelihood": {
            "axes": {axis: {"outcome": o, "judge": "likelihood"} for axis, o in likelihood.items()}
        },
        "translation": {"left_out": "too few"},
    }
    made.sections = {"after": [{"judge": "likelihood", "title": "Likelihood"}]}
    return made


@pytest.mark.parametrize(
    ("outcome", "more"),
    [
        ("no loss", []),
        ("loss", ["By likelihood, it lost fidelity."]),
        ("inconclusive", ["By likelihood, whether it lost fidelity is undecided."]),
    ],
)
def test_a_judge_that_dissents_is_heard_in_the_first_sentences(outcome: str, more: list[str]) -> None:
    found = record(fidelity=outcome)
    both = ["It lost no fidelity beyond the margin.", "It lost no diversity beyond the margin."]
    assert lead(found) == both + more
    assert [(judge, axis) for judge, axis, _ in other_verdicts(found)] == [("likelihood", "fidelity")]
