"""The fidelity–diversity plane: every model at once on both axes, with intervals, beside what is ideal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from niwaki.report import figures
from niwaki.report.figures import AFTER, BEFORE, SERIES, Mark
from niwaki.report.record import RunRecord
from niwaki.report.trust import trusted, unfit
from niwaki.report.words import interval_text, metric_words, number_text, sentence_list

__all__ = ["planes"]

FIDELITY = ("precision", "density", "clipped_density", "alpha_precision", "lsh_precision", "realism")
DIVERSITY = ("coverage", "recall", "clipped_coverage", "beta_recall", "lsh_recall", "vendi")
"""Metrics that may stand on an axis, higher is better, the most telling first."""
BOUNDLESS = ("density", "realism", "vendi")
NAMES = {"trained": "trained model", "bundle": "bundle"}
SHAPES = "os^vP"


def planes(record: RunRecord) -> dict[str, Any]:
    """The section: one plane for each extractor that is fit, and why another has none; empty where nothing
    was evaluated."""
    sides = _sides(record)
    extractors = list(dict.fromkeys(name for tree in sides.values() for name in _extractors(tree)))
    shown, left_out = [], []
    for extractor in extractors:
        if extractor in unfit(record):
            left_out.append(f"'{extractor}' has no plane: it is unfit")
            continue
        chosen = [_chosen(record, extractor, sides, axis) for axis in (FIDELITY, DIVERSITY)]
        if None in chosen:
            lacking = [a for a, c in zip(("fidelity", "diversity"), chosen, strict=True) if c is None]
            left_out.append(
                f"'{extractor}' has no plane: no metric of {sentence_list(lacking)} is to be trusted in it"
            )
            continue
        shown.append(_plane(extractor, sides, (str(chosen[0]), str(chosen[1]))))
    return {"planes": shown, "left_out": left_out} if shown or left_out else {}


def _sides(record: RunRecord) -> dict[str, dict[str, Any]]:
    """Everything that was evaluated, by what it is called: the trained model first."""
    found = {k: v for k, v in record.evaluation.items() if isinstance(v, Mapping) and _extractors(v)}
    order = [k for k in NAMES if k in found] + [k for k in found if k not in NAMES]
    return {NAMES.get(k, k): dict(found[k]) for k in order}


def _extractors(tree: Mapping[str, Any]) -> list[str]:
    """Those in which a metric of either axis was measured."""
    return [
        str(name)
        for name, found in tree.items()
        if isinstance(found, Mapping) and any(_value(found, m) is not None for m in FIDELITY + DIVERSITY)
    ]


def _value(found: Mapping[str, Any], metric: str, part: str = "value") -> Any:
    record = found.get(metric)
    if not isinstance(record, Mapping) or "signature" not in record:
        return None
    value = record.get(part)
    if isinstance(value, list):
        return None if None in value or len(value) != 2 else (float(value[0]), float(value[1]))
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _chosen(
    record: RunRecord, extractor: str, sides: Mapping[str, Any], metrics: tuple[str, ...]
) -> str | None:
    """The most telling metric that every model was measured by and that is to be trusted here."""
    trees = [tree[extractor] for tree in sides.values() if extractor in tree]
    for metric in metrics:
        known = all(_value(tree, metric) is not None for tree in trees)
        if known and trusted(record, extractor, metric):
            return metric
    return None


def _plane(extractor: str, sides: Mapping[str, Any], metrics: tuple[str, str]) -> dict[str, Any]:
    marks, ideals = [], []
    for place, (name, tree) in enumerate(sides.items()):
        found = tree.get(extractor)
        if found is None:
            continue
        x, y, across, up = (_value(found, m, part) for part in ("value", "interval") for m in metrics)
        colour = {"trained model": BEFORE, "bundle": AFTER}.get(name, SERIES[place % len(SERIES)])
        marks.append(Mark(name, x, y, across, up, colour, SHAPES[place % len(SHAPES)]))
        floors = [_value(found, m, "floor") for m in metrics]
        if None not in floors:
            ideals.append((floors[0], floors[1]))
    ideal = ideals[-1] if ideals else None
    titles = [metric_words(m).title for m in metrics]
    most = tuple(math.inf if m in BOUNDLESS else 1.0 for m in metrics)
    chart = figures.plane(
        extractor, (f"{titles[0]} (fidelity)", f"{titles[1]} (diversity)"), marks, ideal,
        most=(most[0], most[1]), key="plane",
    )  # fmt: skip
    return {
        "chart": chart,
        "marks": [_key(m) for m in marks],
        "ideal": ideal is not None,
        "words": _words(marks, ideal, titles),
    }


def _key(mark: Mark) -> dict[str, str]:
    return {"name": mark.name, "colour": figures.PAINT[mark.colour], "shape": mark.shape}


def _words(marks: list[Mark], ideal: tuple[float, float] | None, titles: list[str]) -> list[str]:
    """What the plane shows, a sentence for each model."""
    out = []
    for mark in marks:
        figures_told = [
            f"{title.lower()} {number_text(value)}" + (f" ({interval_text(*interval)})" if interval else "")
            for title, value, interval in zip(
                titles, (mark.x, mark.y), (mark.x_interval, mark.y_interval), strict=True
            )
        ]
        out.append(f"{mark.name.capitalize()}: {sentence_list(figures_told)}{_beside(mark, ideal)}.")
    if ideal:
        real = sentence_list([f"{t.lower()} {number_text(v)}" for t, v in zip(titles, ideal, strict=True)])
        out.append(f"Real training samples in its place: {real}.")
    return out


def _beside(mark: Mark, ideal: tuple[float, float] | None) -> str:
    """Where a mark lies against real samples: an axis is missed where the whole interval lies below."""
    if ideal is None:
        return ""
    ends = {
        "fidelity": (mark.x_interval or (mark.x, mark.x))[1] - ideal[0],
        "diversity": (mark.y_interval or (mark.y, mark.y))[1] - ideal[1],
    }
    missed = [axis for axis, end in ends.items() if end < 0]
    if not missed:
        return "; not discernibly below real samples on either axis"
    kept = [axis for axis in ends if axis not in missed]
    told = f"; below real samples in {sentence_list(missed)}"
    return f"{told}, not discernibly in {kept[0]}" if kept else told
