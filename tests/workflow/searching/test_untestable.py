"""Axes without a margin: a search says beforehand, and in its refusal, that nothing can be proven there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from workflow.searching.searches import LIMITS, candidate

from niwaki.evaluation.equivalence.margins import Margin
from niwaki.report.records import EvaluationRecord
from niwaki.workflow.searching.refusal import refusal
from niwaki.workflow.searching.untestable import untestable, untestable_text


def evaluated(fidelity: float, noise: float = 0.001, **others: Any) -> EvaluationRecord:
    axes = {"key": "k", "method": "m", "fidelity": {"value": fidelity, "noise": noise, "fewest": 0}}
    return EvaluationRecord(n=2000, margins={"samples": {"axes": axes}, **others})


@pytest.mark.parametrize(
    ("record", "axes"),
    [
        (evaluated(0.02), ()),
        (evaluated(0.0, 0.0003), ("fidelity",)),
        (evaluated(0.0015), ("fidelity",)),  # within its own noise
        # the first judge decides
        (evaluated(0.02, predictions={"axes": {"fidelity": Margin(0.0).to_json()}}), ()),
        (EvaluationRecord(margins={"samples": {"left_out": "too few"}}), ()),
        (EvaluationRecord(margins={"samples": "too few"}), ()),
        (None, ()),
    ],
)
def test_an_axis_without_a_margin_is_named(record: EvaluationRecord | None, axes: tuple[str, ...]) -> None:
    assert untestable(record) == axes
    text = untestable_text(record)
    assert all(axis in text for axis in axes)
    assert bool(text) == bool(axes)


def test_a_refusal_begins_with_it() -> None:
    open_ = candidate(0.0, 10e3, 0.0, "inconclusive")
    search: Any = SimpleNamespace(candidates={"a": open_}, limits=LIMITS)
    search.clock, search.afforded = SimpleNamespace(seconds=900.0), SimpleNamespace(each=1e-4)
    found = refusal(search, evaluated(0.0))
    assert found["untestable"] == ["fidelity"]
    assert found["text"].startswith("No verdict on 2,000 samples of this model can say 'no loss' of fidelity")
    assert "untestable" not in refusal(search, evaluated(0.02))
