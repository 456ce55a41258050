"""What compression cost: verdicts, metrics, coverage of each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from niwaki.report.record import Measure, RunRecord, measures
from niwaki.report.trust import trusted
from niwaki.report.verdict_words import badge_text, has_margin, meaning_text, tone_of
from niwaki.report.words import NONE, MetricWords, count_text, interval_text, metric_words, number_text

__all__ = ["Axis", "best_measure", "class_coverage", "paired", "quality", "verdicts"]

PREFERRED = {
    "both": ("frechet", "kernel"),
    "fidelity": ("precision", "density", "clipped_density", "realism"),
    "diversity": ("coverage", "recall", "clipped_coverage", "vendi"),
}


@dataclass(frozen=True)
class Axis:
    """A verdict drawn on a line: positions in per cent of its width."""

    axis: str
    outcome: str
    badge: str
    tone: str
    text: str
    meaning: str
    low: float = 0
    high: float = 0
    point: float = 0
    margin: float = 0
    zero: float = 0
    figures: tuple[tuple[str, str], ...] = ()
    statistic: str = ""
    drawn: bool = False


def best_measure(record: RunRecord, tree: str, axis: str) -> Measure | None:
    """The metric that stands for an axis in the headline: the most telling that is to be trusted, in the
    first features named; one that is not only where there is no other."""
    found = measures(record.evaluation.get(tree))
    order = [str(e.get("name")) for e in record.evaluation.get("extractors", [])]
    for believed in (True, False):
        for stem in PREFERRED[axis]:
            named = [m for m in found if m.metric in (stem, f"{stem}_distance")]
            named = [m for m in named if trusted(record, m.where, m.metric) == believed]
            if named:
                return min(named, key=lambda m: order.index(m.where) if m.where in order else len(order))
    return None


def verdicts(comparison: Mapping[str, Any]) -> list[Axis]:
    """Each axis' verdict, drawn where its interval and margin are known."""
    return [
        _axis(axis, verdict)
        for axis, verdict in comparison.items()
        if isinstance(verdict, Mapping) and verdict.get("outcome")
    ]


def paired(record: RunRecord) -> bool:
    """Whether the verdicts are about pairs of the same noise, not about two sets that share none."""
    return record.comparison.get("paired") is not False and not any(
        isinstance(v, Mapping) and v.get("paired") is False for v in record.comparison.values()
    )


def _axis(axis: str, verdict: Mapping[str, Any]) -> Axis:
    tone, meaning = tone_of(verdict), meaning_text(verdict)
    delta, interval, margin = verdict.get("delta"), verdict.get("interval"), verdict.get("margin")
    figures = [("difference Δ", number_text(delta))]
    if interval:
        figures.append(("its interval", interval_text(*interval)))
    figures.append(("margin fixed beforehand", number_text(margin) if has_margin(verdict) else "none"))
    if verdict.get("before") is not None:
        figures[:0] = [
            ("before", number_text(verdict["before"])),
            ("after", number_text(verdict.get("after"))),
        ]
    p_value = verdict.get("p_adjusted", verdict.get("p_value"))
    if p_value is not None:
        figures.append(("p-value of no difference", number_text(p_value, 2)))
    # samples that share no noise are no pairs
    paired = verdict.get("paired") is not False
    if verdict.get("n"):
        what = "pairs of samples" if paired else "samples of the smaller side"
        figures.append((what, count_text(_first(verdict["n"]))))
    if verdict.get("n_needed") and verdict["n_needed"] > (_first(verdict.get("n")) or 0):
        what = "pairs needed to decide" if paired else "samples needed on each side to decide"
        figures.append((what, f"about {count_text(verdict['n_needed'])}"))
    plain = Axis(
        axis,
        str(verdict["outcome"]),
        badge_text(verdict),
        tone,
        str(verdict.get("text") or ""),
        meaning,
        figures=tuple(figures),
        statistic=str(verdict.get("statistic") or ""),
    )
    if delta is None or margin is None or not has_margin(verdict) or not interval or None in interval:
        return plain
    ends = [0.0, delta, margin, *interval]
    low, high = min(ends), max(ends)
    pad = 0.12 * ((high - low) or 1.0)
    low, high = low - pad, high + pad

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    return replace(
        plain, low=at(interval[0]), high=at(interval[1]), point=at(delta), margin=at(margin), zero=at(0.0),
        drawn=True,
    )  # fmt: skip


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) else value


def quality(record: RunRecord) -> list[dict[str, Any]]:
    """Every metric of the trained model and of the bundle, beside what real samples get in their place."""
    trees = {
        side: {m.path: m for m in measures(record.evaluation.get(side))} for side in ("trained", "bundle")
    }
    names = {str(e.get("name")) for e in record.evaluation.get("extractors", [])}
    rows = []
    for path in dict.fromkeys([*trees["trained"], *trees["bundle"]]):
        sides = [trees[s].get(path) for s in ("trained", "bundle")]
        shown = next(m for m in sides if m)
        if shown.by_class:
            continue  # per class: drawn in a section of its own
        words: MetricWords = metric_words(shown.metric)
        rows.append(
            {
                "axis": words.axis or "other",
                "about": {"both": "fidelity and diversity", "memory": "memorisation"}.get(
                    words.axis, words.axis
                ),
                "title": words.title,
                "where": shown.where if shown.where in names else "",
                "says": words.says,
                "better": words.better,
                "again": False,
                "grey": not trusted(record, shown.where, shown.metric),
                "values": [number_text(m.value) if m else NONE for m in sides],
                "intervals": [_interval(m) for m in sides],
                "floor": number_text(shown.record["floor"]) if shown.record.get("floor") is not None else "–",
                "n": " + ".join(count_text(v) for v in shown.record.get("n") or []),
            }
        )
    order = ("both", "fidelity", "diversity", "memory", "other")
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
    parts = [f"{v:.2f}" if v is not None else "–" for v in (before, after)]
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
