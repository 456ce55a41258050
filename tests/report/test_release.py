"""The gate for release: what passes, what does not, and that nothing passes unmeasured."""

import pytest

from niwaki.core.contract import CallError
from niwaki.report.release import held_back


def gate(close=0.01, identical=0, reasons=()):
    return {
        "passed": not reasons, "reasons": list(reasons), "close": close, "interval": [close / 2, close * 2],
        "identical": identical,
    }  # fmt: skip


def test_by_chance_the_reasons_are_those_of_the_gate():
    assert held_back({"trained": gate()}) == []
    assert held_back({"trained": gate(), "bundle": gate(0.2, reasons=["many copies"])}) == [
        "bundle: many copies"
    ]


@pytest.mark.parametrize(
    ("close", "identical", "limit", "held"),
    [(0.05, 0, 0.05, 0), (0.051, 0, 0.05, 1), (0.0, 1, 0.5, 1), (0.6, 1, 0.5, 2)],
)
def test_a_limit_takes_the_place_of_chance_but_not_for_identical_samples(close, identical, limit, held):
    assert len(held_back({"trained": gate(close, identical, ["by chance"])}, limit)) == held


@pytest.mark.parametrize("gates", [{}, {"trained": {}}, {"trained": {"left_out": "too few"}}])
def test_what_was_not_measured_does_not_pass(gates):
    assert held_back(gates)


def test_a_limit_is_a_share():
    with pytest.raises(CallError, match="a share 0 … 1"):
        held_back({}, 2)
