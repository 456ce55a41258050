"""What a run's records say of copies and of bias, as lines of a model card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from niwaki.report.records import EvaluationRecord, VerdictRecord

__all__ = ["measured_risks"]

_SHOWN = 5


def measured_risks(run: Path) -> list[str]:
    """Markdown list items, of the model and of its bundle; none where nothing was measured."""
    lines: list[str] = []
    for kind in (EvaluationRecord, VerdictRecord):
        record = kind.read(run)
        if record is not None:
            for side in record.gate | record.bias:
                lines += _copies(side, record.gate.get(side) or {})
                lines += _shifts(side, record.bias.get(side) or {})
    return lines


def _copies(side: str, gate: dict[str, Any]) -> Iterator[str]:
    if "passed" in gate:
        low, high = gate["interval"]
        close = (
            f"{gate['close']:.1%} of the samples (95 % {low:.1%} … {high:.1%}) are close to a training sample"
        )
        chance = f"by chance up to {gate['allowed']:.1%} would be; {gate['identical']} equal one"
        yield f"- Memorisation ({side}): {close}, {chance} (n = {gate['n'][1]})."


def _shifts(side: str, bias: dict[str, Any]) -> Iterator[str]:
    for attribute, distance in bias.get("distances", {}).items():
        low, high = distance["interval"]
        clear = [s for s in bias["shifts"] if s["clear"] and s["attribute"] == attribute]
        named = ", ".join(f"{s['name']} {s['real']:.1%} → {s['generated']:.1%}" for s in clear[:_SHOWN])
        more = f" and {len(clear) - _SHOWN} more" if len(clear) > _SHOWN else ""
        value, floor = distance["value"], distance["floor"]
        text = f"total variation {value:.3f} (95 % {low:.3f} … {high:.3f}), {floor:.3f} where nothing differs"
        clearly = f"; clearly shifted: {named}{more}" if clear else "; no value is clearly shifted"
        yield f"- Bias of {attribute} ({side}): {text}{clearly}."
