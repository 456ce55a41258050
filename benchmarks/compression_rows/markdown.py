"""The same table for a page of the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compression_rows.plans import BEST
from compression_rows.rows import EAGER
from compression_rows.table import milliseconds
from compression_rows.timing import BATCHES

__all__ = ["markdown"]


def markdown(found: Mapping[str, Any]) -> str:
    """Bytes, latency (median, quartiles), peak memory, and Δ of both axes with interval and outcome.

    × is against eager float32. Latency and memory are left out where nothing was timed.
    """
    rows = found["rows"]
    timed = any("latency" in r for r in rows)
    heads = ["", "bytes"]
    if timed:
        heads += [h for n in BATCHES for h in (f"sample({n}), ms", "×")] + ["peak MB"]
    heads += ["fidelity", "diversity"]
    base = next(r for r in rows if r["name"] == EAGER)
    lines = [_line(heads), "|" + "---|" * len(heads)]
    for row in rows:
        cells = [f"**{row['name']}**" if row["name"] == BEST else row["name"]]
        if "failure" in row:
            cells += [f"fails: {row['failure'][:120]}"]
            lines.append(_line(cells + [""] * (len(heads) - len(cells))))
            continue
        cells.append(_bytes(row, base))
        if timed:
            cells += [cell for n in BATCHES for cell in _times(row, base, n)]
            memory = row.get("memory_bytes")
            cells.append(f"{memory / 1e6:.0f}" if memory else "–")
        verdict = row["quality"].get("verdict", {})
        cells += [_axis(verdict.get(axis)) for axis in ("fidelity", "diversity")]
        lines.append(_line(cells))
    return "\n".join([_margins(found), "", *lines]) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _margins(found: Mapping[str, Any]) -> str:
    verdicts = [r.get("quality", {}).get("verdict", {}) for r in found["rows"]]
    said = []
    for axis in ("fidelity", "diversity"):
        margins = [v[axis]["margin"] for v in verdicts if v.get(axis, {}).get("margin") is not None]
        if margins:
            said.append(f"{axis} {margins[0]:.4f}")
    tokens = f" of {found['tokens']} tokens" if found.get("tokens") else ""
    return f"n = {found['n']} samples{tokens}, seed {found['seed']}; margins: {', '.join(said) or 'none'}."


def _bytes(row: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    size = row.get("bytes")
    if not size:
        return "–"
    ratio = "" if row is base else f" ({base['bytes'] / size:.1f} ×)"
    return f"{size:,}".replace(",", " ") + ratio


def _times(row: Mapping[str, Any], base: Mapping[str, Any], n: int) -> tuple[str, str]:
    own, first = (r.get("latency", {}).get(str(n)) for r in (row, base))
    if own is None or first is None:
        return "–", ""
    return milliseconds(own), "" if row is base else f"{first['median_ms'] / own['median_ms']:.1f}"


def _axis(found: Mapping[str, Any] | None) -> str:
    if not found or "delta" not in found:
        return ""
    low, high = found["interval"]
    outcome = f"**{found['outcome']}**" if found["outcome"] == "loss" else found["outcome"]
    return f"{outcome}: {found['delta']:.4f} ({low:.4f} … {high:.4f})".replace("-", "−")
