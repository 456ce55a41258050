"""What each section of the page says, as plain values for the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from niwaki.report.record import Measure, RunRecord, measures
from niwaki.report.words import (
    NONE,
    MetricWords,
    bytes_text,
    change_text,
    count_text,
    interval_text,
    metric_words,
    ms_text,
    number_text,
    outcome_of,
    seconds_text,
    sentence_list,
)

__all__ = [
    "Axis",
    "Bar",
    "Row",
    "bars",
    "class_coverage",
    "headline",
    "lead",
    "quality",
    "steps",
    "verdicts",
]

WAYS = {
    "before": "the trained model: torch, float32",
    "compiled": "the same under torch.compile, bf16",
    "float32": "its bundle, not yet compressed",
    "after": "the compressed bundle",
}
PREFERRED = {
    "fidelity": ("frechet", "kernel", "precision", "density"),
    "diversity": ("coverage", "recall", "vendi"),
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


@dataclass(frozen=True)
class Axis:
    """A verdict drawn on a line: positions in per cent of its width."""

    axis: str
    outcome: str
    tone: str
    text: str
    meaning: str
    low: float = 0
    high: float = 0
    point: float = 0
    margin: float = 0
    zero: float = 0
    figures: tuple[tuple[str, str], ...] = ()
    drawn: bool = False


def _latency(measured: Mapping[str, Any], batch: str) -> float | None:
    found = (measured.get("latency") or {}).get(batch)
    return found.get("median_ms") if found else None


def batches(record: RunRecord) -> list[str]:
    """Batch sizes whose latency was measured, as they are written; 1 and 16 where nothing was."""
    found = {b for way in record.measured.values() for b in (way.get("latency") or {})}
    return sorted(found, key=int) or ["1", "16"]


def best_measure(record: RunRecord, tree: str, axis: str) -> Measure | None:
    """The metric that stands for an axis in the headline: the most telling, in the first features named."""
    found = measures(record.evaluation.get(tree))
    order = [str(e.get("name")) for e in record.evaluation.get("extractors", [])]
    for stem in PREFERRED[axis]:
        named = [m for m in found if metric_words(m.metric).axis == axis and m.metric.startswith(stem)]
        if named:
            return min(named, key=lambda m: order.index(m.where) if m.where in order else len(order))
    return None


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
    rows.append(Row("Peak memory", bytes_text(a), bytes_text(b), change_text(a, b, "less", "more")))
    for axis in ("fidelity", "diversity"):
        rows.append(_quality_row(record, axis))
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
            hint += f"; a perfect generator: {number_text(floor)}"
    return Row(
        axis.capitalize(),
        number_text(x.value if x else None),
        number_text(y.value if y else None),
        outcome or "not judged",
        outcome_of(verdict)[0] if outcome else "",
        hint,
    )


def lead(record: RunRecord) -> str:
    """The page's first sentence: how much smaller and faster, and whether anything was lost."""
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
        ("no loss", "No loss of {} was found."),
        ("loss", "It lost {}."),
        ("inconclusive", "Whether it lost {} is undecided."),
    ):
        axes = [axis for axis, found in outcomes.items() if found == outcome]
        if axes:
            parts.append(spoken.format((" or " if outcome == "no loss" else " and ").join(axes)))
    return " ".join(parts)


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
                spread = f"half of {found.get('runs')} runs: {ms_text(found['low_ms'])} … {ms_text(found['high_ms'])}"
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


def verdicts(record: RunRecord) -> list[Axis]:
    """Each axis' verdict, drawn where its interval and margin are known."""
    return [
        _axis(axis, verdict)
        for axis, verdict in record.comparison.items()
        if isinstance(verdict, Mapping) and verdict.get("outcome")
    ]


def _axis(axis: str, verdict: Mapping[str, Any]) -> Axis:
    tone, meaning = outcome_of(dict(verdict))
    delta, interval, margin = verdict.get("delta"), verdict.get("interval"), verdict.get("margin")
    figures = [("difference Δ (above 0 is worse)", number_text(delta))]
    if interval:
        figures.append(("its interval", interval_text(*interval)))
    figures.append(("margin fixed beforehand", number_text(margin)))
    if verdict.get("p_value") is not None:
        figures.append(("p-value of “no loss”", number_text(verdict["p_value"], 2)))
    if verdict.get("n"):
        figures.append(("pairs of samples", count_text(_first(verdict["n"]))))
    if verdict.get("n_needed"):
        figures.append(("pairs needed to decide", f"about {count_text(verdict['n_needed'])}"))
    plain = Axis(
        axis, str(verdict["outcome"]), tone, str(verdict.get("text") or ""), meaning, figures=tuple(figures)
    )
    if delta is None or margin is None or not interval or None in interval:
        return plain
    ends = [0.0, delta, margin, *interval]
    low, high = min(ends), max(ends)
    pad = 0.12 * ((high - low) or 1.0)
    low, high = low - pad, high + pad

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    return Axis(
        plain.axis, plain.outcome, tone, plain.text, meaning, at(interval[0]), at(interval[1]), at(delta), at(margin),
        at(0.0), plain.figures, drawn=True,
    )  # fmt: skip


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) else value


def quality(record: RunRecord) -> list[dict[str, Any]]:
    """Every metric of the trained model and of the bundle, beside what a perfect generator gets."""
    trees = {
        side: {m.path: m for m in measures(record.evaluation.get(side))} for side in ("trained", "bundle")
    }
    rows = []
    for path in dict.fromkeys([*trees["trained"], *trees["bundle"]]):
        sides = [trees[s].get(path) for s in ("trained", "bundle")]
        shown = next(m for m in sides if m)
        if any("class" in part and "classifier" not in part for part in path):
            continue  # per class: drawn in a section of its own
        words: MetricWords = metric_words(shown.metric)
        rows.append(
            {
                "axis": words.axis or "other",
                "title": words.title,
                "where": shown.where,
                "says": words.says,
                "better": words.better,
                "again": False,
                "values": [number_text(m.value) if m else NONE for m in sides],
                "intervals": [_interval(m) for m in sides],
                "floor": number_text(shown.record["floor"]) if shown.record.get("floor") is not None else "–",
                "n": " + ".join(count_text(v) for v in shown.record.get("n") or []),
            }
        )
    order = ("fidelity", "diversity", "memory", "other")
    titles = list(dict.fromkeys(r["title"] for r in rows))
    rows.sort(key=lambda r: (order.index(r["axis"]), titles.index(r["title"])))
    for above, row in pairwise(rows):
        row["again"] = above["title"] == row["title"]  # explained once, for the first features
    for row in rows:
        row["rows"] = sum(r["title"] == row["title"] for r in rows)
    return rows


def _interval(measure: Measure | None) -> str:
    interval = measure.record.get("interval") if measure else None
    if not interval or None in interval:
        return ""
    return interval_text(*interval)


def class_coverage(record: RunRecord) -> list[dict[str, Any]]:
    """Coverage of each class before and after, as shares; empty where it was not evaluated."""
    before = _per_class(record.evaluation.get("trained"))
    after = _per_class(record.evaluation.get("bundle"))
    names = list(dict.fromkeys([*before, *after]))
    spec = record.spec
    if spec and spec.class_names and all(n.isdigit() and int(n) < spec.classes for n in names):
        numbers = [str(i) for i in range(spec.classes)]
        if not set(names) <= set(spec.class_names) or list(spec.class_names) == numbers:
            shown = {n: spec.class_names[int(n)] for n in names}
        else:
            shown = {n: n for n in names}
    else:
        shown = {n: n for n in names}
    return [
        {
            "name": shown[n],
            "before": before.get(n),
            "after": after.get(n),
            "text": _both(before.get(n), after.get(n)),
        }
        for n in names
    ]


def _both(before: float | None, after: float | None) -> str:
    parts = [number_text(v, 2) if v is not None else "–" for v in (before, after)]
    return " → ".join(parts) if after is not None else parts[0]


def _per_class(tree: Any, inside: bool = False) -> dict[str, float]:
    """The first mapping or list of numbers under a key that speaks of coverage and classes."""
    if not isinstance(tree, Mapping):
        return {}
    for key, value in tree.items():
        name = str(key).lower()
        speaks = "class" in name and "classifier" not in name and ("coverage" in name or inside)
        if speaks:
            found = _numbers(value)
            if found:
                return found
        found = _per_class(value, inside or "coverage" in name)
        if found:
            return found
    return {}


def _numbers(value: Any) -> dict[str, float]:
    items = (
        enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, Mapping) else ()
    )
    out = {}
    for key, item in items:
        number = item.get("value", item.get("coverage")) if isinstance(item, Mapping) else item
        if isinstance(number, Mapping):
            number = number.get("value")
        if isinstance(number, int | float) and not isinstance(number, bool):
            out[str(key)] = float(number)
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


def damage_of(record: RunRecord) -> tuple[np.ndarray | None, str]:
    """How far each pair of samples lies apart `(n,)`, and in what unit."""
    kept = record.samples
    before, after = kept.get("before"), kept.get("after")
    given = kept.get("damage")
    if given is not None and before is not None and given.shape == (len(before),):
        return given, "distance between the two in the features that the verdict is taken in"
    if before is None or after is None:
        return None, ""
    spec = record.spec
    span = (spec.high - spec.low) if spec else 1.0
    apart = np.abs(after.astype(np.float64) - before).reshape(len(before), -1).mean(1) / span
    return apart, "mean difference of pixels, as a share of the value range"
