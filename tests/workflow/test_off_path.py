"""What leaves the fast path is told in one line for each reason, however many layers it is true of."""

from __future__ import annotations

from niwaki.deployment.fast_path import OffPath
from niwaki.workflow.operator_warnings import tell_off_path
from niwaki.workflow.reporter import Quiet


class Notes(Quiet):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def told(*found: OffPath) -> list[str]:
    notes = Notes()
    tell_off_path(found, notes)
    return notes.lines


def test_layers_with_one_reason_share_a_line_and_their_arithmetic_adds_up() -> None:
    layers = [OffPath("", "Conv", f"body.{i}", "wide", (8, 8), 0.1) for i in range(4)]
    linear = OffPath("g", "Gemm", "last", "wide", (8, 8), 0.05)
    other = OffPath("", "prune", "weights", "zeros are not skipped")
    assert told(*layers, other, linear) == [
        "off the fast path: 4 Conv, 1 Gemm ('body.0', 'body.1', 'body.2' …), 45% of the arithmetic: wide",
        "off the fast path: prune 'weights': zeros are not skipped",
    ]


def test_a_share_that_is_not_known_is_not_told() -> None:
    (line,) = told(*[OffPath("g", "MatMul", f"{i} products", "in float") for i in (8, 2)])
    assert line == "off the fast path: 2 MatMul ('8 products', '2 products'): in float"


def test_nothing_is_told_of_nothing() -> None:
    assert told() == []
