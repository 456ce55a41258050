"""What compression gained: the headline table, the bars of size and speed, the steps of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from niwaki.report.judgement import best_measure
from niwaki.report.record import RunRecord
from niwaki.report.sections import figure_rows
from niwaki.report.words import (
    NONE,
    bytes_text,
    change_text,
    count_text,
    metric_words,
    ms_text,
    number_text,
    outcome_of,
    seconds_text,
    sentence_list,
)
from niwaki_runtime.engines import engine_memory, known_engines

__all__ = ["Bar", "Row", "bars", "headline", "lead", "other_verdicts", "steps"]

WAYS = {
    "before": "the trained model: torch, float32",
    "compiled": "the same under torch.compile, bf16",
    "float32": "its bundle, not yet compressed",
    "after": "the compressed bundle",
}


@dataclass(frozen=True)
class Row:
    """One line of the headline table. hint: what the figure means, or what a perfect one would be."""

    label: str
    before: str
    after: str
    change: str = ""
    tone: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Bar:
    """One bar. share: of the longest one, 0 … 1; spread: in words."""

    label: str
    share: float
    text: str
    spread: str = ""
    tone: str = ""


def _latency(measured: Mapping[str, Any], batch: str) -> float | None:
    found = (measured.get("latency") or {}).get(batch)
    return found.get("median_ms") if found else None


def batches(record: RunRecord) -> list[str]:
    """Batch sizes whose latency was measured, as they are written; 1 and 16 where nothing was."""
    found = {b for way in record.measured.values() for b in (way.get("latency") or {})}
    return sorted(found, key=int) or ["1", "16"]


def headline(record: RunRecord) -> list[Row]:
    """Before and after: bytes, latencies, memory, fidelity, diversity."""
    measured = record.measured
    before, after = measured.get("before") or {}, measured.get("after") or {}
    a, b = before.get("bytes"), after.get("bytes")
    rows = [Row("Size on disk", bytes_text(a), bytes_text(b), change_text(a, b, "smaller", "larger"))]
    for batch in batches(record):
        x, y = _latency(before, batch), _latency(after, batch)
        label = "Time for one sample" if batch == "1" else f"Time for {batch} samples"
        rows.append(Row(label, ms_text(x), ms_text(y), change_text(x, y, "faster", "slower")))
    a, b = before.get("memory_bytes"), after.get("memory_bytes")
    change = change_text(a, b, "less", "more")
    rows.append(Row("Peak memory", bytes_text(a), bytes_text(b), change, hint=_memory_hint(after)))
    if record.evaluation.get("trained"):
        rows += [_quality_row(record, axis) for axis in ("both", "fidelity", "diversity")]
    return rows + _judged_rows(record)


def _memory_hint(after: dict[str, Any]) -> str:
    """Why a small bundle takes much memory, where it does."""
    engine, used = str(after.get("engine") or ""), after.get("memory_bytes")
    if engine not in known_engines() or not used or engine_memory(engine) < used / 2:
        return ""
    own = bytes_text(engine_memory(engine))
    smaller = min(known_engines(), key=engine_memory)
    other = "" if smaller == engine else f"; {smaller}'s take {bytes_text(engine_memory(smaller))}"
    return f"about {own} of it is {engine}'s own code and tables, whatever the network{other}"


def _judged_rows(record: RunRecord) -> list[Row]:
    """Of every judge but that of samples, the first figure of each axis beside its verdict."""
    after = {s["judge"]: s for s in record.sections.get("after", [])}
    rows = []
    for section in record.sections.get("before", []):
        if section["judge"] == "samples":
            continue
        verdicts = (record.verdicts.get(section["judge"]) or {}).get("axes") or {}
        firsts: dict[str, dict[str, str]] = {}
        for row in figure_rows(section, after.get(section["judge"])):
            firsts.setdefault(row["axis"], row)
        for axis, row in firsts.items():
            verdict = verdicts.get(axis) or {}
            outcome = str(verdict.get("outcome") or "")
            hint = f"{axis}, {row['better']} is better"
            if row["reference"]:
                hint += f"; {row['reference_name']}: {row['reference']}"
            tone = outcome_of(verdict)[0] if outcome else ""
            name = row["name"][0].upper() + row["name"][1:]
            rows.append(Row(name, row["before"], row["after"], outcome, tone, hint))
    return rows


def _quality_row(record: RunRecord, axis: str) -> Row:
    x, y = best_measure(record, "trained", axis), best_measure(record, "bundle", axis)
    verdict = record.comparison.get(axis) or {}
    outcome = str(verdict.get("outcome") or "")
    hint = ""
    shown = x or y
    if shown:
        words = metric_words(shown.metric)
        hint = f"{words.title}, {words.better} is better"
        floor = shown.record.get("floor")
        if floor is not None:
            hint += f"; real samples in its place: {number_text(floor)}"
    return Row(
        "Distance to real samples" if axis == "both" else axis.capitalize(),
        number_text(x.value if x else None),
        number_text(y.value if y else None),
        outcome or ("" if axis == "both" else "not judged"),
        outcome_of(verdict)[0] if outcome else "",
        hint,
    )


def lead(record: RunRecord) -> str:
    """The page's first sentence: how much smaller and faster, and whether anything was lost."""
    if record.failure:
        return ""
    measured = record.measured
    before, after = measured.get("before") or {}, measured.get("after") or {}
    gains = [change_text(before.get("bytes"), after.get("bytes"), "smaller", "larger")]
    for batch in batches(record)[:1]:
        gains.append(change_text(_latency(before, batch), _latency(after, batch), "faster", "slower"))
    gains = [g for g in gains if g]
    parts = []
    if gains:
        parts.append(f"The bundle is {sentence_list(gains)} than the trained model.")
    outcomes = {a: (record.comparison.get(a) or {}).get("outcome") for a in ("fidelity", "diversity")}
    for outcome, spoken in (
        ("loss", "It lost {}."),
        ("no loss", "It lost no {} beyond the margin."),
        ("inconclusive", "Whether it lost {} is undecided."),
    ):
        axes = [axis for axis, found in outcomes.items() if found == outcome]
        if axes:
            parts.append(spoken.format((" or " if outcome == "no loss" else " and ").join(axes)))
    return " ".join([*parts, *_dissent(record)])


def _dissent(record: RunRecord) -> list[str]:
    """What judges beside those of the headline found that is not "no loss"."""
    titles = {s["judge"]: s["title"] for s in record.sections.get("after", [])}
    return [
        f"By {titles.get(judge, judge).lower()}, "
        + (f"it lost {axis}." if verdict["outcome"] == "loss" else f"whether it lost {axis} is undecided.")
        for judge, axis, verdict in other_verdicts(record)
        if verdict.get("outcome") != "no loss"
    ]


def other_verdicts(record: RunRecord) -> list[tuple[str, str, dict[str, Any]]]:
    """Judge, axis and verdict of those that the headline does not show."""
    return [
        (judge, axis, verdict)
        for judge, found in record.verdicts.items()
        for axis, verdict in (found.get("axes") or {}).items()
        if (record.comparison.get(axis) or {}).get("judge", judge) != judge
    ]


def bars(record: RunRecord) -> list[tuple[str, list[Bar]]]:
    """Size and latency of every way of sampling that was measured: one group of bars per quantity."""
    measured = {name: record.measured[name] for name in WAYS if record.measured.get(name)}
    groups: list[tuple[str, list[tuple[str, float | None, str, str]]]] = []
    sizes = [(n, m.get("bytes"), bytes_text(m.get("bytes")), "") for n, m in measured.items()]
    groups.append(("Size on disk", sizes))
    for batch in batches(record):
        rows = []
        for name, m in measured.items():
            found = (m.get("latency") or {}).get(batch) or {}
            value = found.get("median_ms")
            spread = ""
            if found.get("low_ms") is not None:
                half = f"{ms_text(found['low_ms'])} … {ms_text(found['high_ms'])}"
                spread = f"half of {found.get('runs')} runs: {half}"
            rows.append((name, value, ms_text(value), spread))
        groups.append(("Time for one sample" if batch == "1" else f"Time for {batch} samples at once", rows))
    memory = [(n, m.get("memory_bytes"), bytes_text(m.get("memory_bytes")), "") for n, m in measured.items()]
    groups.append(("Peak memory", memory))
    out = []
    for title, rows in groups:
        known = [v for _, v, _, _ in rows if v]
        if known:
            drawn = [
                Bar(WAYS[n], (v or 0) / max(known), text, spread, "after" if n == "after" else "before")
                for n, v, text, spread in rows
            ]
            out.append((title, drawn))
    return out


def steps(record: RunRecord) -> list[dict[str, str]]:
    """What every step of compression did."""
    out = []
    for step in record.compression.get("steps") or []:
        parameters, macs = step.get("parameters") or [None, None], step.get("macs") or [None, None]
        counts = list((step.get("quantized") or {}).values())
        done, total = (sum(c.get(k, 0) for c in counts) for k in ("quantized", "total"))
        latency = step.get("latency") or {}
        first = next(iter(latency), None)
        out.append(
            {
                "kind": str(step.get("kind", "")),
                "parameters": count_text(parameters[1]),
                "macs": number_text(macs[1] / 1e6) + " M" if macs[1] is not None else NONE,
                "bytes": bytes_text(step.get("bytes")),
                "latency": ms_text(latency[first]) if first is not None else NONE,
                "int8": f"{done} of {total}" if total else "–",
                "error": f"{number_text(step['error'], 2)} σ" if step.get("error") is not None else NONE,
                "seconds": seconds_text(step.get("seconds")),
                "notes": " ".join(step.get("notes") or []),
            }
        )
    return out
