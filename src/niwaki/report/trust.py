"""What stands beside the numbers: whether the judges may be trusted and with which metrics, which modes are
lost, what has shifted, whether the model may be released, and what the most changed samples share."""

from __future__ import annotations

from typing import Any

from niwaki.report import figures
from niwaki.report.record import RunRecord, measures
from niwaki.report.words import metric_words, sentence_list

__all__ = [
    "SIDES",
    "distrusted",
    "findings",
    "found_of",
    "judges",
    "mode_title",
    "told_modes",
    "trusted",
    "unfit",
]

SIDES = (("bundle", "bundle"), ("trained", "trained model"))
LACKS = {True: "lost (surely less than half of what it should be)", False: "reduced (surely too little)"}
NAMED = 5
"""Lost modes, or shifts, that are named in a sentence."""


def unfit(record: RunRecord) -> set[str]:
    """Extractors that did not pass their ladders: what they say is shown grey."""
    return {name for name, found in _fitness(record).items() if found.get("fit") is False}


def trusted(record: RunRecord, extractor: str, metric: str) -> bool:
    """Whether a metric may be believed in an extractor: neither the extractor failed nor the metric in it."""
    found = _fitness(record).get(extractor) or {}
    return found.get("fit") is not False and metric not in (found.get("distrusted") or {})


def distrusted(record: RunRecord) -> list[str]:
    """What is grey, and why: a sentence for each extractor that is no judge of some metric that is shown."""
    shown = {m.metric for side, _ in SIDES for m in measures(record.evaluation.get(side))}
    out = []
    for name, found in _fitness(record).items():
        failed = {m: on for m, on in (found.get("distrusted") or {}).items() if m in shown}
        if found.get("fit") is False:
            out.append(f"All of '{name}', which is unfit.")
        elif failed:
            told = [f"{metric_words(m).title} (on {sentence_list(list(on))})" for m, on in failed.items()]
            out.append(f"In '{name}', because they did not follow known damage: {', '.join(told)}.")
    return out


def found_of(record: RunRecord, part: str) -> tuple[str, str, dict[str, Any]]:
    """A part of what was found, about what ships, or where that was not judged about the trained model: its
    side, what the side is called, and the finding; empty where there is none."""
    for side, name in SIDES:
        found = (record.evaluation.get(part) or {}).get(side)
        if found and "left_out" not in found:
            return side, name, dict(found)
    return "", "", {}


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
    # what decides, then what failed: nobody should have to look for it
    order = sorted(shown, key=lambda m: (not shown[m]["decides"], shown[m]["passed"]))
    deciding = order[: len(figures.SERIES)]
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
    known = "modes" if found_of(record, "modes")[2] else "clusters"  # older runs know the clusters alone
    for part, title, say in (
        (known, "Lost modes", told_modes if known == "modes" else _clusters),
        ("bias", "Shifts", _bias),
        ("gate", "Release", _gate),
    ):
        _, name, found = found_of(record, part)
        if found and not (record.failure and part == "gate"):
            tone, text = say(found)
            out.append({"title": title, "tone": tone, "text": text, "of": name})
    if any(record.training.get(key) for key in ("looks", "told", "health")):
        tone, text = _watched(record.training)
        out.append({"title": "Training", "tone": tone, "text": text, "of": "trained model"})
    common = record.comparison.get("common") or {}
    if common.get("text"):
        tone = "open" if common.get("found") else "good"
        out.append(
            {"title": "Most changed", "tone": tone, "text": common["text"], "of": "bundle against model"}
        )
    return out


def told_modes(found: dict[str, Any]) -> tuple[str, str]:
    """Tone and sentence about the modes that are lost or reduced."""
    looked = [f"{n} {_plural(kind, n)}" for kind, n in (found.get("looked_at") or {}).items() if n]
    kinds = {lost: [mode_title(m) for m in found["found"] if m["lost"] == lost] for lost in LACKS}
    parts = [f"{LACKS[lost]}: {_some(names)}" for lost, names in kinds.items() if names]
    if not parts:
        return (
            "good",
            f"None of the {sentence_list(looked)} of the test split certainly gets less than it should.",
        )
    return ("bad" if kinds[True] else "open"), f"Of {sentence_list(looked)}: {'; '.join(parts)}."


def mode_title(mode: dict[str, Any]) -> str:
    """`class 8`; a cluster says what it is."""
    return f"class {mode['name']}" if mode["kind"] == "class" else str(mode["name"])


def _plural(kind: str, n: int) -> str:
    return kind if n == 1 else {"class": "classes"}.get(kind, f"{kind}s")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _watched(training: dict[str, Any]) -> tuple[str, str]:
    """What the watch told, and whether it was over at the end."""
    told = training.get("told") or []
    if not told:
        looks = [look for look in training.get("looks") or () if look.get("kind") != "gradients"]
        layers = len(training.get("health") or ())
        said = [f"No sign of collapse in {len(looks)} looks at the training."] if looks else []
        said += [f"Gradients were well in all of {layers} layers."] if layers else []
        return "good", " ".join(said)
    said = []
    for of in told:
        gone = "" if of.get("lasting") else "; at the end no longer"
        when = "At the end" if of.get("course") else f"From step {of['step']} on"
        said.append(f"{when}, {of['text']}{gone}.")
    return "bad" if any(of.get("lasting") for of in told) else "open", " ".join(said)


def _clusters(found: dict[str, Any]) -> tuple[str, str]:
    lost = found.get("dropped") or []
    known = {c["index"]: c["name"] for c in found["clusters"]}
    names = [str(known.get(i, i)) for i in lost]
    if not names:
        of = f"{len(found['clusters'])} clusters of the test split"
        return "good", f"None of {of} is certainly made less than half as often as it should be."
    return "bad", f"Made less than half as often as they should be: {_some(names)}."


def _bias(found: dict[str, Any]) -> tuple[str, str]:
    clear = [s for s in found["shifts"] if s.get("clear")]
    if not clear:
        kinds = ", ".join(found["distances"])
        return "good", f"No value of {kinds} is certainly more or less frequent than among real samples."
    shifts = [f"{100 * s['shift']:+.1f}".replace("-", "−") for s in clear[:NAMED]]
    parts = [f"{s['attribute']} {s['name']} {by} points" for s, by in zip(clear, shifts, strict=False)]
    more = f" and {len(clear) - NAMED} more" if len(clear) > NAMED else ""
    return "open", f"Against real samples: {'; '.join(parts)}{more}."


def _gate(found: dict[str, Any]) -> tuple[str, str]:
    return ("good" if found["passed"] else "bad"), str(found["text"])
