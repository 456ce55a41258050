"""Memory of the training set: the nearest generated samples beside the training samples they resemble."""

from __future__ import annotations

from typing import Any

from niwaki.report.pictures import drawable, picture
from niwaki.report.record import RunRecord
from niwaki.report.trust import SIDES, trusted
from niwaki.report.words import count_text, interval_text, number_text

__all__ = ["copies", "positions"]

SHOWN = 12
MEMORY = {
    "authenticity": "authenticity",
    "copying_test": "copying test C_T",
    "feature_likelihood_gap": "feature likelihood gap",
}
"""Metrics of memory beside the close copies, where they were asked for."""


def positions(record: RunRecord) -> list[int]:
    """Of the originals that are shown, in the training split."""
    side, _ = _side(record)
    return [int(c["train_index"]) for c in _nearest(record, side)]


def copies(record: RunRecord) -> dict[str, Any]:
    """The section: what the gate decided, the figures it rests on, and the nearest pairs; empty where nobody
    looked for copies."""
    side, of = _side(record)
    if not side:
        return {}
    gate = _gate(record, side)
    pairs = [_pair(record, side, c) for c in _nearest(record, side)]
    return {
        "of": of,
        "n": count_text((record.evaluation.get(side) or {}).get("n") or record.evaluation.get("n")),
        "outcome": "" if not gate or record.failure else "may be released" if gate["passed"] else "held back",
        "tone": "good" if gate.get("passed") else "bad",
        "text": "" if record.failure else str(gate.get("text", "")),
        "figures": _figures(record, side, gate),
        "unit": _unit(record, side)[1],
        "features": str(gate.get("features") or _first(record)),
        "pairs": [p for p in pairs if p["made"]],
        "pictured": any(p["real"] for p in pairs),
        "close": any(p.get("mark") == "close" for p in pairs),
    }


def _side(record: RunRecord) -> tuple[str, str]:
    """What ships, or else the trained model: the first whose copies were looked for."""
    for side, name in SIDES:
        if ((record.evaluation.get(side) or {}).get("copies") or {}).get("close"):
            return side, name
    return "", ""


def _gate(record: RunRecord, side: str) -> dict[str, Any]:
    found = (record.evaluation.get("gate") or {}).get(side) or {}
    return {} if "left_out" in found else dict(found)


def _first(record: RunRecord) -> str:
    extractors = record.evaluation.get("extractors") or [{}]
    return str(extractors[0].get("name", ""))


def _nearest(record: RunRecord, side: str) -> list[dict[str, Any]]:
    """What the gate holds against the model first, then the nearest of all."""
    found = (record.evaluation.get(side) or {}).get("copies") or {}
    near = {c["sample"]: c for c in found.get("nearest") or []}
    held = {c["sample"]: {**near.get(c["sample"], {}), **c} for c in _gate(record, side).get("samples") or []}
    return list({**held, **{i: c for i, c in near.items() if i not in held}}.values())[:SHOWN]


def _unit(record: RunRecord, side: str) -> tuple[float | None, str]:
    """What distances are divided by. Older runs know only how near the nearest test samples are."""
    usual = _gate(record, side).get("usual")
    if usual:
        return (
            usual,
            "how far a real test sample usually (in the median) is from its nearest training sample",
        )
    limit = ((record.evaluation.get(side) or {}).get("copies") or {}).get("limit")
    return limit or None, "how far all but the nearest 1 % of test samples are from a training sample"


def _pair(record: RunRecord, side: str, copy: dict[str, Any]) -> dict[str, str]:
    """A generated sample, its original, and how far apart they are."""
    spec, i = record.spec, int(copy["sample"])
    made = record.samples.get("after" if side == "bundle" else "before")
    if spec is None or not drawable(spec) or made is None or i >= len(made):
        return {"made": "", "real": ""}
    original = record.originals.get("train", {}).get(int(copy["train_index"]))
    if original is None and side == "bundle" and i < len(record.samples.get("nearest", ())):
        original = record.samples["nearest"][i]  # of every sample of the bundle the run keeps its neighbour
    unit, limit = _unit(record, side)[0], (record.evaluation[side]["copies"]).get("limit")
    near = limit is not None and copy["distance"] < limit
    labels = record.samples.get("labels")
    return {
        "made": picture(made[i], spec),
        "real": "" if original is None else picture(original, spec),
        "name": f"sample {i}" if labels is None else record.class_name(int(labels[i])),
        "apart": number_text(copy["distance"] / unit if unit else copy["distance"], 2),
        "mark": "identical" if copy.get("identical") else "close" if near else "",
    }


def _figures(record: RunRecord, side: str, gate: dict[str, Any]) -> list[tuple[str, str]]:
    found = record.evaluation[side]["copies"]
    close = found["close"]
    out = [("close to a training sample", _share(close["value"], close.get("interval")))]
    if gate:
        out.append(("chance allows", _share(gate["allowed"])))
    if found.get("identical") is not None:
        out.append(("identical to one", count_text(found["identical"])))
    for extractor, tree in record.evaluation[side].items():
        for metric in MEMORY:
            result = tree.get(metric) if isinstance(tree, dict) else None
            if isinstance(result, dict) and "signature" in result and trusted(record, extractor, metric):
                floor = result.get("floor")
                beside = "" if floor is None else f" (real samples: {number_text(floor)})"
                title = f"{MEMORY[metric]} in '{extractor}'"
                out.append((title, f"{number_text(result.get('value'))}{beside}"))
    return out


def _share(value: float | None, interval: Any = None) -> str:
    if value is None:
        return number_text(None)
    within = ""
    if interval and None not in interval:
        within = f" ({interval_text(*(100 * v for v in interval))} %)"
    return f"{100 * value:.1f} %{within}"
