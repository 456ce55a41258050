"""What every judge says, before and after: its figures in a table, its notes, and what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from niwaki.report.figures import Chart, curves
from niwaki.report.record import RunRecord
from niwaki.report.verdict_words import badge_text, tone_of
from niwaki.report.words import NONE, interval_text, number_text

__all__ = ["figure_rows", "judges"]

EXHIBITS = 8
"""As many are shown of each judge."""


def judges(record: RunRecord) -> list[dict[str, Any]]:
    """One part per judge, in the order in which they speak; metrics of samples have a table of their own."""
    out = []
    after = {s["judge"]: s for s in record.sections.get("after", [])}
    for section in record.sections.get("before", []):
        other = after.get(section["judge"])
        verdicts = (record.verdicts.get(section["judge"]) or {}).get("axes") or {}
        said = {str(v.get("text")) for v in record.comparison.values() if isinstance(v, Mapping)}
        details = (other or section).get("details") or {}
        rows = figure_rows(section, other)
        exhibits = list(details.get("exhibits") or [])[:EXHIBITS]
        if section["judge"] == "samples" and record.evaluation.get("trained"):
            rows = []
        if rows or exhibits:
            out.append(
                {
                    "title": section["title"],
                    "rows": rows,
                    "both": other is not None,
                    "notes": list((other or section).get("notes") or []),
                    "legend": details.get("legend", ""),
                    "exhibits": exhibits,
                    "charts": _over_time(section, other),
                    "verdicts": [
                        # What is said under "Verdicts" is not said twice.
                        (axis, badge_text(v), tone_of(v), _unless(said, v.get("text", "")))
                        for axis, v in verdicts.items()
                    ],
                }
            )
    return out


def _over_time(section: Mapping[str, Any], other: Mapping[str, Any] | None) -> list[Chart]:
    """Curves of what a judge says of each frame: of the trained model, of the bundle, and of what both are
    held against."""
    later = {c["title"]: c for c in ((other or {}).get("details") or {}).get("over_time") or []}
    charts = []
    for told in (section.get("details") or {}).get("over_time") or []:
        series = {"trained model": told["values"]}
        if told["title"] in later:
            series["bundle"] = later[told["title"]]["values"]
        if told["reference"] is not None:
            series[told["reference_name"]] = told["reference"]
        steps = {name: (range(1, 1 + len(values)), values) for name, values in series.items()}
        charts.append(curves(told["title"], steps, unit=told["unit"]))
    return charts


def figure_rows(section: Mapping[str, Any], other: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """A row per figure: name, before, after, what it is held against."""
    later = {f["name"]: f for f in (other or {}).get("figures", [])}
    rows = []
    for figure in section.get("figures", []):
        second = later.get(figure["name"])
        reference = figure.get("reference")
        rows.append(
            {
                "name": figure["name"],
                "axis": figure.get("axis", ""),
                "better": figure.get("better", ""),
                "before": number_text(figure["value"]),
                "before_interval": _interval(figure),
                "after": number_text(second["value"]) if second else NONE,
                "after_interval": _interval(second),
                "reference": "" if reference is None else number_text(reference),
                "reference_name": figure.get("reference_name") or "",
            }
        )
    return rows


def _unless(said: set[str], text: str) -> str:
    return "" if text in said else text


def _interval(figure: Mapping[str, Any] | None) -> str:
    interval = (figure or {}).get("interval")
    return interval_text(*interval) if interval and None not in interval else ""
