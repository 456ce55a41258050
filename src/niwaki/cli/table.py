"""The tables that verbs end with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["bytes_text", "draw_evaluation", "draw_steps", "draw_summary", "ms_text"]

_OUTCOMES = {
    "no loss": "[bold green]no loss[/]",
    "loss": "[bold red]loss[/]",
    "inconclusive": "[bold yellow]inconclusive[/]",
}


def bytes_text(n: float | None) -> str:
    """`812 B`, `64.1 kB`, `3.20 MB`: powers of 1000, three figures."""
    if n is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n) < 1000 or unit == "GB":
            return f"{n:.0f} B" if unit == "B" else f"{_three(n)} {unit}"
        n /= 1000
    return ""


def ms_text(ms: float | None) -> str:
    """`0.094 ms`, `12.3 ms`, `1.20 s`."""
    if ms is None:
        return "–"
    return f"{_three(ms / 1000)} s" if ms >= 1000 else f"{_three(ms)} ms"


def _three(value: float) -> str:
    """Three figures, without exponents."""
    digits = 3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def _times(before: float | None, after: float | None, word: str) -> str:
    if not before or not after:
        return ""
    factor = before / after
    opposite = {"smaller": "larger", "faster": "slower", "less": "more"}[word]
    return f"[bold]{_three(factor)} ×[/] {word}" if factor >= 1 else f"{_three(1 / factor)} × {opposite}"


def draw_summary(console: Console, found: Mapping[str, Any]) -> None:
    """Before and after, the verdicts, and where everything is."""
    measured = found["measured"]
    names = [n for n in ("before", "compiled", "float32", "after") if n in measured]
    titles = {
        "before": "torch float32",
        "compiled": "torch.compile bf16",
        "float32": "float32 bundle",
        "after": "bundle",
    }
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim", title_justify="left")
    table.add_column(found["name"], style="bold", header_style="bold")
    for name in names:
        table.add_column(titles[name], justify="right", style="" if name == "after" else "dim")
    table.add_column("")
    rows: list[tuple[str, Any, Any, str]] = [("bytes on disk", lambda m: m["bytes"], bytes_text, "smaller")]
    for batch in measured["after"]["latency"]:
        rows.append(
            (
                f"latency, batch {batch}",
                lambda m, b=batch: m["latency"].get(b, {}).get("median_ms"),
                ms_text,
                "faster",
            )
        )
    rows.append(("peak memory", lambda m: m["memory_bytes"], bytes_text, "less"))
    for title, value, text, word in rows:
        figures = [value(measured[n]) for n in names]
        table.add_row(title, *map(text, figures), _times(figures[0], figures[-1], word))
    console.print()
    console.print(table)
    console.print()
    for axis, verdict in found["verdict"].items():
        console.print(f"[bold]{axis:<10}[/] {_OUTCOMES.get(verdict['outcome'], verdict['outcome'])}  {verdict['text']}")
    console.print()
    console.print(f"[dim]bundle[/]  {found['bundle']}")
    console.print(f"[dim]report[/]  [bold]{found['report']}[/]")


def draw_steps(console: Console, found: Mapping[str, Any]) -> None:
    """What every step of a compression plan did."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    steps = found["steps"]
    batches = list(steps[-1]["latency"]) if steps else []
    columns = ["step", "parameters", "multiply-adds", "bundle", *(f"batch {b}" for b in batches), "int8", "moved by", "took"]
    for column in columns:
        table.add_column(column, justify="left" if column == "step" else "right")
    for step in steps:
        integers = [q for q in step["quantized"].values()]
        done, total = sum(q.get("quantized", 0) for q in integers), sum(q.get("total", 0) for q in integers)
        table.add_row(
            f"[bold]{step['kind']}[/]",
            f"{step['parameters'][1]:,}",
            f"{step['macs'][1] / 1e6:.2f} M",
            bytes_text(step["bytes"]),
            *(ms_text(step["latency"].get(b)) for b in batches),
            f"{done}/{total}" if total else "–",
            f"{step['error']:.3f} σ",
            f"{step['seconds']:.1f} s",
        )
    console.print(table)


def draw_evaluation(console: Console, found: Mapping[str, Any]) -> None:
    """Every metric beside what a perfect generator would score."""
