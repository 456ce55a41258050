"""The course of a training while it goes on: what was added to `metrics.jsonl` since somebody looked last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["METRICS", "rows_since"]

METRICS = "metrics.jsonl"


def rows_since(run: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int, bool]:
    """Whole rows of a run's course behind a byte of its file, the byte behind the last of them, and whether
    they begin anew, because the file has been written again and is shorter than it was. A line that is no
    JSON, as a kill leaves one, is skipped; a line that is still being written is left for the next call."""
    try:
        with open(run / METRICS, "rb") as file:
            size = file.seek(0, 2)
            anew = size < offset
            file.seek(0 if anew else offset)
            data = file.read()
    except OSError:
        return [], 0, offset > 0
    begin = 0 if anew else offset
    whole = data[: data.rfind(b"\n") + 1]
    rows = []
    for line in whole.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows, begin + len(whole), anew
