"""Axes that no plan can be shown to have lost nothing on: their margin is within its own noise, for
planted damage does not show."""

from __future__ import annotations

from collections.abc import Mapping

from niwaki.evaluation.equivalence.margins import Margin
from niwaki.report.records import EvaluationRecord

__all__ = ["untestable", "untestable_text"]

_FIELDS = Margin(0.0).to_json().keys()


def untestable(record: EvaluationRecord | None) -> tuple[str, ...]:
    """Of the final verdict, by the margins that were stored before anything was compared: an axis's first
    judge decides."""
    found: dict[str, bool] = {}
    for judge in (record.margins if record else {}).values():
        axes = judge.get("axes") if isinstance(judge, Mapping) else None
        for axis, margin in (axes or {}).items():
            if isinstance(margin, Mapping) and margin.keys() >= _FIELDS:
                found.setdefault(axis, Margin.from_json(margin).calibrated)
    return tuple(axis for axis, calibrated in found.items() if not calibrated)


def untestable_text(record: EvaluationRecord | None) -> str:
    """A sentence; empty where every axis can be tested."""
    axes = untestable(record)
    if record is None or not axes:
        return ""
    return (
        f"No verdict on {record.n:,} samples of this model can say 'no loss' of {' and '.join(axes)}: "
        "planted damage does not show in it, so that there is no margin. Train it longer, or give more data."
    )
