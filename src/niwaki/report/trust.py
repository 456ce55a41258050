"""What stands beside the numbers: whether the judges may be trusted, which modes are lost, what has shifted,
whether the model may be released, and what the most changed samples share."""

from __future__ import annotations

from typing import Any

from niwaki.report import figures
from niwaki.report.record import RunRecord
from niwaki.report.words import metric_words

__all__ = ["findings", "judges", "unfit"]

SIDES = (("bundle", "bundle"), ("trained", "trained model"))
NAMED = 5
"""Lost modes, or shifts, that are named in a sentence."""


def unfit(record: RunRecord) -> set[str]:
    """Extractors that did not pass their ladders: what they say is shown grey."""
    return {name for name, found in _fitness(record).items() if found.get("fit") is False}


def judges(record: RunRecord) -> list[dict[str, Any]]:
    """Each extractor with its verdict and one chart for each ladder."""
    out = []
    for name, found in _fitness(record).items():
        fit = found.get("fit")
        out.append(
            {
                "name": name,
                "outcome": {True: "fit", False: "unfit", None: "not tried"}[fit],
                "tone": {True: "good", False: "bad", None: "open"}[fit],
                "text": found.get("text", ""),
                "charts": [_ladder(name, ladder) for ladder in found.get("ladders") or []],
            }
        )
    return out


def _fitness(record: RunRecord) -> dict[str, Any]:
    return dict(record.evaluation.get("fitness") or {})


def _ladder(extractor: str, ladder: dict[str, Any]) -> figures.Chart:
    """The metrics that the ladder must move, each from its lowest to its highest value."""
    shown = {m: c for m, c in ladder["metrics"].items() if c["judged"]}
    deciding = sorted(shown, key=lambda m: not shown[m]["decides"])[: len(figures.SERIES)]
    series = {}
    for metric in deciding:
        values = shown[metric]["values"]
        low, high = min(values), max(values)
        scaled = [(v - low) / (high - low) if high > low else 0.0 for v in values]
        mark = "" if shown[metric]["passed"] else " ✗"
        series[metric_words(metric).title + mark] = (ladder["strengths"], scaled)
    return figures.curves(ladder["name"], series, unit=ladder["unit"], key=extractor)


def findings(record: RunRecord) -> list[dict[str, str]]:
    """Sentences about what ships, or where that was not judged about the trained model: title, tone, text."""
    out = []
    for part, title, say in (
        ("clusters", "Lost modes", _clusters),
        ("bias", "Shifts", _bias),
        ("gate", "Release", _gate),
    ):
        sides = record.evaluation.get(part) or {}
        for side, name in SIDES:
            found = sides.get(side)
            if found and "left_out" not in found:
                tone, text = say(found)
                out.append({"title": title, "tone": tone, "text": text, "of": name})
                break
    common = record.comparison.get("common") or {}
    if common.get("text"):
        tone = "open" if common.get("found") else "good"
        out.append(
            {"title": "Most changed", "tone": tone, "text": common["text"], "of": "bundle against model"}
        )
    return out


def _clusters(found: dict[str, Any]) -> tuple[str, str]:
    lost = found.get("dropped") or []
    known = {c["index"]: c["name"] for c in found["clusters"]}
    names = [str(known.get(i, i)) for i in lost]
    if not names:
        of = f"{len(found['clusters'])} clusters of the test split"
        return "good", f"None of {of} is certainly made too rarely."
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return "bad", f"Made less than half as often as they should be: {', '.join(names[:NAMED])}{more}."


def _bias(found: dict[str, Any]) -> tuple[str, str]:
    clear = [s for s in found["shifts"] if s.get("clear")]
    if not clear:
        kinds = ", ".join(found["distances"])
        return "good", f"No value of {kinds} is certainly more or less frequent than among real samples."
    parts = [f"{s['attribute']} {s['name']} {100 * s['shift']:+.1f} points" for s in clear[:NAMED]]
    more = f" and {len(clear) - NAMED} more" if len(clear) > NAMED else ""
    return "open", f"Against real samples: {'; '.join(parts)}{more}."


def _gate(found: dict[str, Any]) -> tuple[str, str]:
    return ("good" if found["passed"] else "bad"), str(found["text"])
