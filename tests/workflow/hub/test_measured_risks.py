"""The card says what the records have measured, and nothing where they have not."""

from niwaki.report.records import EvaluationRecord
from niwaki.workflow.hub.measured_risks import _copies, _shifts, measured_risks


def test_copies_and_shifts_are_said_with_their_intervals():
    gate = {
        "passed": True,
        "close": 0.012,
        "interval": [0.01, 0.02],
        "allowed": 0.03,
        "identical": 0,
        "n": [300, 1000],
    }
    (line,) = _copies("trained", gate)
    for figure in ("1.2%", "1.0% … 2.0%", "3.0%", "n = 1000"):
        assert figure in line
    bias = {
        "distances": {"class": {"value": 0.2, "interval": [0.1, 0.3], "floor": 0.04}},
        "shifts": [
            {"attribute": "class", "name": "7", "real": 0.1, "generated": 0.02, "clear": True},
            {"attribute": "class", "name": "8", "real": 0.1, "generated": 0.11, "clear": False},
        ],
    }
    (line,) = _shifts("trained", bias)
    assert "0.200 (95 % 0.100 … 0.300), 0.040 where nothing differs; clearly shifted: 7 10.0% → 2.0%." in line
    assert "8 10.0%" not in line


def test_a_run_without_records_says_nothing(tmp_path):
    assert EvaluationRecord.read(tmp_path) is None
    assert measured_risks(tmp_path) == []
