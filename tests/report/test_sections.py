"""What every judge says on the page."""

from __future__ import annotations

from pathlib import Path

from niwaki.report.record import RunRecord
from niwaki.report.sections import judges


def test_a_verdict_is_told_once_and_a_second_judges_own_in_its_part() -> None:
    record = RunRecord(Path("run"), {})
    figure = {"name": "CRPS", "value": 1.0, "axis": "fidelity", "better": "lower"}
    record.sections = {
        "before": [
            {"judge": j, "title": j, "figures": [figure], "details": {}} for j in ("forecast", "other")
        ]
    }
    told = {"outcome": "no loss", "text": "No loss of fidelity."}
    own = {"outcome": "loss", "text": "A loss of its own."}
    record.evaluation = {"comparison": {"fidelity": told}}
    record.verdicts = {"forecast": {"axes": {"fidelity": told}}, "other": {"axes": {"fidelity": own}}}
    first, second = judges(record)
    assert first["verdicts"] == [("fidelity", "no loss beyond the margin", "good", "")]
    assert second["verdicts"] == [("fidelity", "loss", "bad", "A loss of its own.")]


def test_what_is_said_of_every_frame_is_drawn_of_both_models_and_of_what_they_are_held_against() -> None:
    record = RunRecord(Path("run"), {})

    def told(*values: float) -> dict[str, object]:
        curve = {"title": "PSNR by frame", "unit": "frame", "values": list(values), "reference": [9.0, 8.0],
                 "reference_name": "the last known frame"}  # fmt: skip
        figure = {"name": "PSNR", "value": 1.0, "axis": "fidelity", "better": "higher"}
        return {"judge": "restoration", "title": "R", "figures": [figure], "details": {"over_time": [curve]}}

    record.sections = {"before": [told(20.0, 15.0)], "after": [told(19.0, 14.0)]}
    (found,) = judges(record)
    (chart,) = found["charts"]
    assert chart.title == "PSNR by frame"
    assert chart.legend == ("trained model", "bundle", "the last known frame")
    record.sections = {"before": [{**told(20.0, 15.0), "details": {}}]}
    assert judges(record)[0]["charts"] == []
