"""A table of runs: on the terminal and in a notebook alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from niwaki.report.words import bytes_text, number_text, seconds_text

__all__ = ["run_table", "value_text"]

_NONE = "–"
_MOST = 3
"""Figures with a column of their own: those that most runs have."""


def run_table(lines: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Titles and cells; columns that would be empty are left out.

    lines: as `niwaki.runs` returns them
    """
    counts: dict[str, int] = {}
    for line in lines:
        for name in line["figures"]:
            counts[name] = counts.get(name, 0) + 1
    figures = sorted(counts, key=lambda name: -counts[name])[:_MOST]
    columns: dict[str, list[str]] = {
        "run": [str(line["path"]) for line in lines],
        "model": [line["model"] for line in lines],
        "data": [line["data"] for line in lines],
        "status": [line["status"] for line in lines],
        "steps": ["" if line["steps"] is None else f"{line['steps']:,}" for line in lines],
        "took": [seconds_text(line["seconds"]) if line["seconds"] else "" for line in lines],
        **{name: [_figure(line["figures"].get(name)) for line in lines] for name in figures},
        "bundle": ["" if line["bytes"] is None else bytes_text(line["bytes"]) for line in lines],
        "smaller": [_times(line["smaller"]) for line in lines],
        "faster": [_times(line["faster"]) for line in lines],
        "fidelity": [line["verdict"].get("fidelity", "") for line in lines],
        "diversity": [line["verdict"].get("diversity", "") for line in lines],
    }
    columns = {title: cells for title, cells in columns.items() if any(cells)}
    return tuple(columns), [
        tuple(cell or _NONE for cell in row) for row in zip(*columns.values(), strict=True)
    ]


def value_text(value: Any) -> str:
    """A setting as a recipe says it."""
    if value is None:
        return _NONE
    return f"{value:g}" if isinstance(value, float) else str(value)


def _figure(found: Mapping[str, Any] | None) -> str:
    return number_text(found["value"]) if found else ""


def _times(factor: float | None) -> str:
    return f"{factor:.3g}×" if factor else ""
