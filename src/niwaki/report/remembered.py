"""A model that was trained on from another one, and that one, both by the data before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from niwaki.report.judgement import Axis, verdicts
from niwaki.report.record import Measure, RunRecord, measures
from niwaki.report.sections import figure_rows
from niwaki.report.words import interval_text, metric_words, number_text

__all__ = ["Remembered", "Row", "remembered"]


@dataclass(frozen=True)
class Row:
    """A figure of both models, with intervals."""

    title: str
    where: str
    before: str
    before_interval: str
    after: str
    after_interval: str
    better: str


@dataclass(frozen=True)
class Remembered:
    """What the page shows; `left_out` is why there is nothing."""

    verdicts: tuple[Axis, ...] = ()
    rows: tuple[Row, ...] = ()
    left_out: str = ""


def remembered(record: RunRecord) -> Remembered | None:
    """None where nothing was asked for."""
    found = record.evaluation.get("remembered") or {}
    if not found:
        return None
    if "left_out" in found:
        return Remembered(left_out=str(found["left_out"]))
    return Remembered(tuple(verdicts(found.get("verdict") or {})), tuple(_rows(found)))


def _rows(found: Mapping[str, Any]) -> list[Row]:
    """Metrics of samples, then what other judges measure."""
    sides = [{m.path: m for m in measures(found.get(side))} for side in ("before", "after")]
    rows = []
    for path in (p for p, m in sides[0].items() if p in sides[1] and not m.by_class):
        one, two = sides[0][path], sides[1][path]
        words, where = metric_words(one.metric), "" if one.where == "copies" else one.where
        better = words.better or ""
        rows.append(Row(words.title, where, *_cells(one), *_cells(two), better))
    later = {section["judge"]: section for section in found["sections"]["after"]}
    for section in found["sections"]["before"]:
        if section["judge"] in later and section["judge"] != "samples":
            rows += [
                Row(
                    row["name"], section["title"], row["before"], row["before_interval"], row["after"],
                    row["after_interval"], row["better"],
                )
                for row in figure_rows(section, later[section["judge"]])
            ]  # fmt: skip
    return rows


def _cells(measure: Measure) -> tuple[str, str]:
    interval = measure.record.get("interval") or (None,)
    return number_text(measure.value), "" if None in interval else interval_text(*interval)
