"""What is odd about data stands at the end, each with the first of the things that it is about."""

from __future__ import annotations

import io

from rich.console import Console

from niwaki.cli.findings import draw_findings


def test_every_finding_is_a_line_and_its_things_are_named() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, no_color=True)
    draw_findings(console, [], "data")
    assert out.getvalue() == ""
    findings = [
        {"level": "error", "kind": "left out", "text": "5 files [odd] are gone", "items": [*"abcde"]},
        {"level": "note", "kind": "shapes", "text": "they are grey", "items": []},
    ]
    draw_findings(console, findings, "data")
    assert out.getvalue().splitlines() == [
        "data", "✗ 5 files [odd] are gone", "  a, b, c and 2 more", "· they are grey",
    ]  # fmt: skip
