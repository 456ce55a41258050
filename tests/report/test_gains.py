"""What the headline says when several judges have spoken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from report.found import change, fitness

from niwaki.report.gains import lead, other_verdicts
from niwaki.report.record import RunRecord, read_run


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


def test_a_distance_in_unfit_features_is_no_first_sentence(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    assert any("Fréchet distance" in sentence for sentence in lead(read_run(run)))
    change(run, fitness={"random": fitness(fit=False), "classifier": fitness(fit=False)})
    assert not any("Fréchet distance" in sentence for sentence in lead(read_run(run)))
