"""What compression gained and what it cost, at a glance: the first sentences and the headline table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from niwaki.report import times
from niwaki.report.judgement import best_measure
from niwaki.report.record import RunRecord
from niwaki.report.sections import figure_rows
from niwaki.report.trust import trusted
from niwaki.report.verdict_words import badge_text, lead_text, loss_text, tone_of, value_texts
from niwaki.report.words import bytes_text, change_text, metric_words, ms_text, number_text, sentence_list
from niwaki_runtime.engines import engine_memory, known_engines

__all__ = ["AXES", "Row", "headline", "lead", "other_verdicts"]

AXES = ("fidelity", "diversity")


@dataclass(frozen=True)
class Row:
    """One line of the headline table.

    tone:      of a verdict's badge; empty where `change` is no verdict
    hint:      what the figure means, what was tested, or what a perfect one would be
    uncertain: the figures are too uneven to be compared
    """

    label: str
    before: str
    after: str
    change: str = ""
    tone: str = ""
    hint: str = ""
    uncertain: bool = False


def headline(record: RunRecord) -> list[Row]:
    """Before and after: bytes, latencies, memory, distance to real samples, and for each axis the statistic
    that its verdict tested."""
    measured = record.measured
    before, after = measured.get("before") or {}, measured.get("after") or {}
    a, b = before.get("bytes"), after.get("bytes")
    rows = [Row("Size on disk", bytes_text(a), bytes_text(b), change_text(a, b, "smaller", "larger"))]
    rows += [_time_row(record, batch) for batch in times.batches(record)]
    a, b = before.get("memory_bytes"), after.get("memory_bytes")
    change = change_text(a, b, "less", "more")
    rows.append(Row("Peak memory", bytes_text(a), bytes_text(b), change, hint=_memory_hint(after)))
    if record.evaluation.get("trained"):
        rows.append(_measure_row(record, "both", "Distance to real samples", ""))
    rows += _figure_rows(record)
    for axis in AXES:
        verdict = record.comparison.get(axis) or {}
        if verdict.get("outcome"):
            rows.append(_verdict_row(axis.capitalize(), verdict))
        elif record.evaluation.get("trained"):
            rows.append(_measure_row(record, axis, axis.capitalize(), "not judged"))
    titles = _titles(record)
    for judge, axis, verdict in other_verdicts(record):
        rows.append(_verdict_row(f"{axis.capitalize()} by {titles.get(judge, judge).lower()}", verdict))
    return rows


def _time_row(record: RunRecord, batch: str) -> Row:
    before, after = (
        ms_text(times.latency(record, side, batch).get("median_ms")) for side in ("before", "after")
    )
    uneven = times.unevenness(record, batch)
    change, hint = uneven or times.speed_text(record, batch), times.why_uneven(record, batch)
    return Row(times.title(batch), before, after, change, hint=hint, uncertain=bool(uneven))


def _memory_hint(after: dict[str, Any]) -> str:
    """Why a small bundle takes much memory, where it does."""
    engine, used = str(after.get("engine") or ""), after.get("memory_bytes")
    if engine not in known_engines() or not used or engine_memory(engine) < used / 2:
        return ""
    own = bytes_text(engine_memory(engine))
    smaller = min(known_engines(), key=engine_memory)
    other = "" if smaller == engine else f"; {smaller}'s take {bytes_text(engine_memory(smaller))}"
    return f"about {own} of it is {engine}'s own code and tables, whatever the network{other}"


def _verdict_row(label: str, verdict: Mapping[str, Any]) -> Row:
    """What was tested, before and after, with the interval that the outcome rests on."""
    before, after = value_texts(verdict)
    return Row(label, before, after, badge_text(verdict), tone_of(verdict), loss_text(verdict))


def _figure_rows(record: RunRecord) -> list[Row]:
    """Of every judge but that of samples, the first figure, beside what it is held against."""
    after = {s["judge"]: s for s in record.sections.get("after", [])}
    rows = []
    for section in record.sections.get("before", []):
        if section["judge"] == "samples":
            continue
        for row in figure_rows(section, after.get(section["judge"]))[:1]:
            hint = f"{row['better']} is better"
            if row["reference"]:
                hint += f"; {row['reference_name']}: {row['reference']}"
            name = row["name"][0].upper() + row["name"][1:]
            rows.append(Row(name, row["before"], row["after"], hint=hint))
    return rows


def _measure_row(record: RunRecord, axis: str, label: str, change: str) -> Row:
    """A metric that no verdict tested."""
    x, y = best_measure(record, "trained", axis), best_measure(record, "bundle", axis)
    hint = ""
    shown = x or y
    if shown:
        words = metric_words(shown.metric)
        hint = f"{words.title}, {words.better} is better"
        floor = shown.record.get("floor")
        if floor is not None:
            hint += f"; real samples in its place: {number_text(floor)}"
    return Row(
        label, number_text(x.value if x else None), number_text(y.value if y else None), change, "", hint
    )


def lead(record: RunRecord) -> list[str]:
    """The page's first sentences: how much smaller and faster, whether anything was lost, and how near the
    samples are to real ones. None of a run that failed."""
    if record.failure:
        return []
    measured = record.measured
    before, after = measured.get("before") or {}, measured.get("after") or {}
    gains = [change_text(before.get("bytes"), after.get("bytes"), "smaller", "larger")]
    gains += [times.speed_text(record, batch) for batch in times.batches(record)[:1]]
    gains = [g for g in gains if g]
    parts = []
    if gains:
        parts.append(f"The bundle is {sentence_list(gains)} than the trained model.")
    verdicts = {axis: record.comparison.get(axis) or {} for axis in AXES}
    parts += [lead_text(axis, verdict) for axis, verdict in verdicts.items() if verdict.get("outcome")]
    return [*parts, *_dissent(record), *_quality(record)]


def _dissent(record: RunRecord) -> list[str]:
    """What judges beside those of the headline found that is not "no loss"."""
    titles = _titles(record)
    return [
        f"By {titles.get(judge, judge).lower()}, "
        + (f"it lost {axis}." if verdict["outcome"] == "loss" else f"whether it lost {axis} is undecided.")
        for judge, axis, verdict in other_verdicts(record)
        if verdict.get("outcome") != "no loss"
    ]


def _quality(record: RunRecord) -> list[str]:
    """How near what the run ended with is to real samples; nothing where no metric of it is to be trusted."""
    found = best_measure(record, "bundle", "both") or best_measure(record, "trained", "both")
    if found is None or found.value is None or found.record.get("floor") is None:
        return []
    if not trusted(record, found.where, found.metric):
        return []
    title = metric_words(found.metric).title
    floor = number_text(found.record["floor"])
    return [f"Its {title} to real samples is {number_text(found.value)}; as many real ones have {floor}."]


def other_verdicts(record: RunRecord) -> list[tuple[str, str, dict[str, Any]]]:
    """Judge, axis and verdict of those that the headline does not show first."""
    return [
        (judge, axis, verdict)
        for judge, found in record.verdicts.items()
        for axis, verdict in (found.get("axes") or {}).items()
        if (record.comparison.get(axis) or {}).get("judge", judge) != judge
    ]


def _titles(record: RunRecord) -> dict[str, str]:
    return {s["judge"]: s["title"] for s in record.sections.get("after", [])}
