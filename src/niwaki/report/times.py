"""Times of sampling in words: a factor between two medians, or that one of them is too uneven for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from niwaki.deployment.timing import SPREAD, is_uncertain
from niwaki.report.record import RunRecord
from niwaki.report.words import change_text, ms_range_text, ms_text, sentence_list

__all__ = [
    "batches",
    "latency",
    "range_text",
    "speed_text",
    "threads_text",
    "title",
    "unevenness",
    "why_uneven",
]


def batches(record: RunRecord) -> list[str]:
    """Batch sizes whose latency was measured, as they are written; 1 and 16 where nothing was."""
    found = {b for way in record.measured.values() for b in (way.get("latency") or {})}
    return sorted(found, key=int) or ["1", "16"]


def title(batch: str) -> str:
    return "Time for one sample" if batch == "1" else f"Time for {batch} samples"


def latency(record: RunRecord, way: str, batch: str) -> dict[str, Any]:
    """`median_ms`, `low_ms`, `high_ms`, `runs` of a way of sampling; empty where it was not measured."""
    return dict(((record.measured.get(way) or {}).get("latency") or {}).get(batch) or {})


def range_text(found: Mapping[str, Any]) -> str:
    """`half of 30 runs: 1.36 ms … 1.52 ms`; empty where only a median is known."""
    if found.get("low_ms") is None:
        return ""
    told = f"half of {found.get('runs')} runs: {ms_text(found['low_ms'])} … {ms_text(found['high_ms'])}"
    return f"{told}; uncertain" if _uneven(found) else told


def speed_text(record: RunRecord, batch: str) -> str:
    """`12.5× faster`; empty where a time is missing or too uneven to be compared."""
    if unevenness(record, batch):
        return ""
    before, after = (latency(record, way, batch).get("median_ms") for way in ("before", "after"))
    return change_text(before, after, "faster", "slower")


def unevenness(record: RunRecord, batch: str) -> str:
    """`uncertain (37 … 145 ms)` where a time before or after spreads too far for a factor; else empty."""
    uneven = _uneven_sides(record, batch)
    if not uneven:
        return ""
    return f"uncertain ({' → '.join(uneven.values())})"


def why_uneven(record: RunRecord, batch: str) -> str:
    """Of which side `unevenness` speaks, and what it rests on; empty where it says nothing."""
    sides = sentence_list(list(_uneven_sides(record, batch)))
    return f"{sides}: the middle half of the runs spans more than a factor of {SPREAD:g}" if sides else ""


def _uneven_sides(record: RunRecord, batch: str) -> dict[str, str]:
    found = {side: latency(record, side, batch) for side in ("before", "after")}
    return {s: ms_range_text(t["low_ms"], t["high_ms"]) for s, t in found.items() if _uneven(t)}


def _uneven(found: Mapping[str, Any]) -> bool:
    low, high = found.get("low_ms"), found.get("high_ms")
    return low is not None and high is not None and is_uncertain(low, high)


def threads_text(record: RunRecord) -> str:
    """` on 2 threads`, and why where they are fewer than the recipe asks for; empty where it is not known."""
    used = (record.measured.get("after") or {}).get("threads")
    if not used:
        return ""
    asked = (record.recipe.get("export") or {}).get("threads")
    text = f" on {used} thread{'' if used == 1 else 's'}"
    return text if not asked or asked <= used else f"{text}, since on {asked} their times were uneven"
