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
