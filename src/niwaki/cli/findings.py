"""What is odd about data, as it stands at the end of what a verb says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

__all__ = ["draw_findings"]

_MARKS = {"error": "[red]✗[/]", "warning": "[yellow]![/]", "note": "[dim]·[/]"}
_NAMED = 3


def draw_findings(console: Console, findings: Iterable[Mapping[str, Any]], title: str = "") -> None:
    """One line for each finding, the first of the things that it is about named below it.

    title: stands above them, where there are any
    """
    for finding in findings:
        if title:
            console.print(f"[bold]{title}[/]")
            title = ""
        console.print(f"{_MARKS[finding['level']]} {escape(finding['text'])}")
        items = [str(item) for item in finding.get("items") or ()]
        if items:
            more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
            console.print(f"  [dim]{escape(', '.join(items[:_NAMED]))}{more}[/]")
