"""The tables that verbs end with, in the words of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from niwaki.report.gains import headline, other_verdicts
from niwaki.report.moved import Moved, moved_of, moved_texts
from niwaki.report.record import read_run
from niwaki.report.words import bytes_text, ms_text, number_text

__all__ = ["draw_moved", "draw_steps", "draw_summary"]

_TONES = {"good": "bold green", "bad": "bold red", "open": "bold yellow"}


def draw_summary(console: Console, found: Mapping[str, Any]) -> None:
    """Before and after, the verdicts, and where everything is."""
    record = read_run(Path(found["run"]))
    after = found["measured"]["after"]
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column(escape(found["name"]), header_style="bold")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right", style="bold")
    table.add_column("")
    table.add_row(*(f"[dim]{t}[/]" for t in ("", "torch, float32", f"bundle, {after['engine']}", "")))
    hints = []
    for row in headline(record):
        tone = "yellow" if row.uncertain else _TONES.get(row.tone, "")
        table.add_row(row.label, row.before, row.after, f"[{tone}]{row.change}[/]" if tone else row.change)
        if row.hint:
            hints.append(f"{row.label}: {row.hint}")
    console.print()
    console.print(table)
    console.print()
    others = [verdict for _, _, verdict in other_verdicts(record)]
    for verdict in (*found["verdict"].values(), *others):
        if isinstance(verdict, Mapping) and verdict.get("text"):
            console.print(escape(verdict["text"]))
    draw_moved(console, moved_of(record))
    for hint in hints:
        console.print(f"[dim]{escape(hint)}[/]")
    console.print()
    console.print(f"[dim]bundle[/]  {escape(str(found['bundle']))}")
    console.print(f"[dim]report[/]  [bold]{escape(str(found['report']))}[/]")


def draw_moved(console: Console, found: Sequence[Moved]) -> None:
    """What fell and what rose beside what was tested, in both directions."""
    told = moved_texts(found)
    for way, text in told.items():
        console.print(f"{way.capitalize()} beyond the 95 % intervals: {escape(text)}.")
    if not told:
        console.print("No other figure moved beyond its 95 % interval.")


def draw_steps(console: Console, found: Mapping[str, Any]) -> None:
    """What every step of a compression plan did."""
    steps = found["steps"]
    batches = list(steps[-1]["latency"]) if steps else []
    columns = ["step", "weights", "MACs", "bundle", *(f"n = {b}" for b in batches), "int8", "moved", "took"]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column == "step" else "right")
    for step in steps:
        integers = list(step["quantized"].values())
        done, total = (sum(q.get(key, 0) for q in integers) for key in ("quantized", "total"))
        table.add_row(
            f"[bold]{step['kind']}[/]",
            number_text(step["parameters"][1]),
            number_text(step["macs"][1] / 1e6) + " M",
            bytes_text(step["bytes"]),
            *(ms_text(step["latency"].get(b)) for b in batches),
            f"{done}/{total}" if total else "–",
            f"{number_text(step['error'], 2)} σ",
            f"{step['seconds']:.0f} s",
        )
    console.print(table)
