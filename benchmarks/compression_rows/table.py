"""One table per model, and its record as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from compression_rows.rows import COMPILED, EAGER
from compression_rows.timing import BATCHES

__all__ = ["milliseconds", "table"]

FIGURES = 4
"""How many of the judge's figures are shown."""
_SHORT = {"no loss": "no loss", "loss": "LOSS", "inconclusive": "?"}


def table(found: Mapping[str, Any]) -> Table:
    """Rows are ways to sample; × is against eager float32, in brackets against torch.compile bf16."""
    rows = found["rows"]
    lists = (r["quality"]["figures"] for r in rows if r.get("quality", {}).get("figures"))
    figures = [str(f["name"]) for f in next(lists, [])[:FIGURES]]
    per = f" ({found['tokens']} tokens)" if found.get("tokens") else ""
    shown = Table(
        "",
        "bytes",
        *(f"sample({n}){per}, ms" for n in BATCHES),
        *(f"× b{n}" for n in BATCHES),
        "peak MB",
        *(name.partition(":")[0] for name in figures),
        "fidelity",
        "diversity",
        title=f"{found['model']}: n={found['n']}, seed {found['seed']}, {found['rounds']} rounds",
    )
    by = {r["name"]: r for r in rows}
    group = "baseline"
    for row in rows:
        if row["group"] != group:
            shown.add_section()
            group = row["group"]
        if "failure" in row:
            shown.add_row(row["name"], f"failed: {row['failure'][:60]}")
            continue
        size, memory = row.get("bytes"), row.get("memory_bytes")
        ratio = (
            f" ({by[EAGER]['bytes'] / size:.1f}×)" if size and EAGER in by and row["name"] != EAGER else ""
        )
        verdicts = row["quality"].get("verdict", {})
        shown.add_row(
            row["name"],
            "" if size is None else f"{size:,}{ratio}",
            *(_time(row, n) for n in BATCHES),
            *(_ratios(row, by, n) for n in BATCHES),
            "" if memory is None else f"{memory / 1e6:.1f}",
            *(_value(row["quality"], name) for name in figures),
            *(_SHORT.get(verdicts.get(axis, {}).get("outcome"), "") for axis in ("fidelity", "diversity")),
        )
    return shown


def _time(row: Mapping[str, Any], n: int) -> str:
    t = row.get("latency", {}).get(str(n))
    return "" if t is None else milliseconds(t)


def milliseconds(latency: Mapping[str, Any]) -> str:
    """Median (quartiles): three digits that count, and never 1.45e+03."""
    median, low, high = (
        f"{x:.3g}" if x < 1000 else f"{x:.0f}"
        for x in (latency[k] for k in ("median_ms", "low_ms", "high_ms"))
    )
    return f"{median} ({low}–{high})"


def _ratios(row: Mapping[str, Any], by: Mapping[str, Any], n: int) -> str:
    """Of medians that were taken in the same run."""
    own = row.get("latency", {}).get(str(n))
    bases = [by.get(name, {}).get("latency", {}).get(str(n)) for name in (EAGER, COMPILED)]
    if own is None or bases[0] is None:
        return ""
    texts = [f"{b['median_ms'] / own['median_ms']:.1f}" for b in bases if b is not None]
    return texts[0] + (f" ({texts[1]})" if len(texts) > 1 else "")


def _value(quality: Mapping[str, Any], name: str) -> str:
    result = next((f for f in quality.get("figures", ()) if f["name"] == name), None)
    if result is None:
        return ""
    interval = result.get("interval")
    width = "" if interval is None else f" ±{(interval[1] - interval[0]) / 2:.2g}"
    return f"{result['value']:.3g}{width}"
