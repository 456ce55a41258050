"""Modes that the model has lost: real samples of each beside the generated ones that come nearest."""

from __future__ import annotations

from typing import Any

from niwaki.report.pictures import drawable, picture
from niwaki.report.record import RunRecord
from niwaki.report.trust import found_of, mode_title, told_modes
from niwaki.report.words import interval_text, number_text

__all__ = ["modes", "positions"]

MOST, SHOWN = 8, 6
"""Modes that are shown, and samples of each."""
PER_CENT = 100


def positions(record: RunRecord) -> list[int]:
    """Of the real samples that are shown, in the test split."""
    return [i for mode in _found(record)[:MOST] for i in mode["real"]]


def modes(record: RunRecord) -> dict[str, Any]:
    """The section: a sentence on what was found, and every lost or reduced mode with its pictures; empty
    where nobody looked for modes."""
    side, of, found = found_of(record, "modes")
    if not found:
        side, of, found = found_of(record, "clusters")
        if not found:
            return {}
    lost = _found(record)
    cards = [_card(record, side, mode) for mode in lost[:MOST]]
    return {
        "of": of,
        "features": found.get("features", ""),
        "text": told_modes({"looked_at": _looked_at(found), "found": lost})[1],
        "modes": cards,
        "more": len(lost) - len(cards),
        "pictured": any(card["pairs"] for card in cards),
        "missing": bool(lost) and drawable(record.spec) and not any(card["pairs"] for card in cards),
    }


def _found(record: RunRecord) -> list[dict[str, Any]]:
    """The modes, the worst first. Older runs name lost clusters alone, and no generated samples."""
    found = found_of(record, "modes")[2]
    if found:
        return list(found["found"])
    clusters = found_of(record, "clusters")[2]
    known = {c["index"]: c for c in clusters.get("clusters", ())}
    total = sum(c.get("generated", 0) for c in known.values()) or 1
    return [
        {
            "kind": "cluster",
            "name": c["name"],
            "lost": True,
            "ratio": (c.get("ratio") or {}).get("value"),
            "interval": (c.get("ratio") or {}).get("interval") or [None, None],
            "share": c.get("expected"),
            "made": c.get("generated", 0) / total,
            "real": list(c.get("typical") or [])[:SHOWN],
            "nearest": [],
            "apart": [],
        }
        for c in (known[i] for i in clusters.get("dropped", ()) if i in known)
    ]


def _looked_at(found: dict[str, Any]) -> dict[str, int]:
    return found.get("looked_at") or {"cluster": len(found.get("clusters", ()))}


def _card(record: RunRecord, side: str, mode: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": mode_title(mode),
        "outcome": "lost" if mode["lost"] else "reduced",
        "tone": "bad" if mode["lost"] else "open",
        "text": _text(mode),
        "before": _before(record, side, mode),
        "pairs": _pairs(record, side, mode),
    }


def _text(mode: dict[str, Any]) -> str:
    """What it should get and what it gets."""
    if mode["share"] is None:
        return ""
    share, made = (f"{PER_CENT * mode[k]:.1f} %" for k in ("share", "made"))
    if mode["kind"] == "class":
        text = f"{made} of its real samples are covered, where as many training samples cover {share}"
    else:
        text = f"It holds {share} of the real samples and {made} of the generated ones"
    if mode["ratio"] is None:
        return f"{text}."
    low, high = mode["interval"]
    within = f" ({interval_text(low, high)})" if low is not None and high is not None else ""
    return f"{text}: {number_text(mode['ratio'], 2)} of what it should be{within}."


def _before(record: RunRecord, side: str, mode: dict[str, Any]) -> str:
    """Whether compression did it: how the trained model stood."""
    earlier = (record.evaluation.get("modes") or {}).get("trained")
    if side != "bundle" or not earlier or "left_out" in earlier:
        return ""
    same = [m for m in earlier["found"] if (m["kind"], m["name"]) == (mode["kind"], mode["name"])]
    if not same:
        return "The trained model was not found to lack it."
    return f"The trained model already lacks it: {number_text(same[0]['ratio'], 2)} of what it should be."


def _pairs(record: RunRecord, side: str, mode: dict[str, Any]) -> list[dict[str, str]]:
    """Real samples of the mode, each above the generated one nearest to it, as far as they were kept."""
    spec, kept = record.spec, record.originals.get("test", {})
    made = record.samples.get("after" if side == "bundle" else "before")
    if spec is None or not drawable(spec):
        return []
    out = []
    for place, i in enumerate(mode["real"][:SHOWN]):
        if i not in kept:
            continue
        nearest = mode["nearest"][place] if place < len(mode["nearest"]) else None
        shown = made is not None and nearest is not None and nearest < len(made)
        out.append(
            {
                "real": picture(kept[i], spec),
                "made": picture(made[nearest], spec) if shown else "",  # type: ignore[index]
                "apart": number_text(mode["apart"][place], 2) if shown else "",
            }
        )
    return out
