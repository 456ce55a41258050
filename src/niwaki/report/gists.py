"""What stands on a folded part of the page: its most important figure in a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from niwaki.report.record import RunRecord
from niwaki.report.words import count_text, sentence_list

__all__ = ["gists"]


def gists(record: RunRecord, page: Mapping[str, Any]) -> dict[str, str]:
    """By the name of a part, a line; empty where nothing was found to put there.

    page: what the parts show, as `niwaki.report.write.context` gathers it
    """
    lines = {
        "verdicts": _verdicts(page["verdicts"]),
        "remembered": _verdicts(page["remembered"].verdicts) if page["remembered"] else "",
        "sheet": _sheet(page["samples"]),
        "pairs": _pairs(page["pairs"]),
        "damage": _damage(page["damage"]),
        "plane": _plane(page["plane"]),
        "metrics": _metrics(page["quality"]),
        "findings": _findings(page["findings"]),
        "modes": _modes(page["modes"]),
        "copies": _copies(page["copies"]),
        "judges": ", ".join(f"{j['name']}: {j['outcome']}" for j in page["judges"] or []),
        "classes": _classes(page["coverage"]),
        "cost": _cost(record, page["steps"]),
        "layers": page["layers"].sentences[0] if page["layers"] else "",
        "search": page["found"].gist if page["found"] else "",
        "training": sentence_list([f"{value} {name}" for name, value in page["training"][:2]]),
        "data": _data(page["data"], page["audit"]),
        "versions": _versions(page["versions"], page["signatures"]),
    }
    for place, judge in enumerate(page["judges_say"], 1):
        lines[f"judge-{place}"] = _judge(judge)
    return lines


def _verdicts(found: Any) -> str:
    return " · ".join(f"{axis.axis}: {axis.badge}" for axis in found)


def _sheet(found: Mapping[str, Any]) -> str:
    made = len(found.get("tiles") or found.get("media") or ())
    real = len(found.get("real") or found.get("real_media") or ())
    if not made:
        return ""
    return f"{made} made" + (f" beside {real} real ones" if real else "")


def _pairs(found: Any) -> str:
    return f"{len(found)} pairs from the same seed" if found else ""


def _damage(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    name, value = found["figures"][0]
    return f"{name}: moved by {value} at most"


def _plane(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    names = [plane["chart"].title for plane in found["planes"]]
    return f"both axes at once, seen by {sentence_list(names)}" if names else "no features are fit for it"


def _metrics(rows: Any) -> str:
    if not rows:
        return ""
    first = next((row for row in rows if not row["grey"]), rows[0])
    before, after = first["values"]
    return f"{first['title']}: {before} → {after}, real {first['floor']} · {len(rows)} figures"


def _findings(found: Any) -> str:
    looked = [f["title"].lower() for f in found if f["tone"] != "good"]
    if not found:
        return ""
    return f"to look at: {sentence_list(looked)}" if looked else f"{len(found)} looked for, nothing found"


def _modes(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    titles = [m["title"] for m in found["modes"]]
    return f"{len(titles) + found['more']}: {', '.join(titles[:3])}" if titles else "none"


def _copies(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    name, value = found["figures"][0]
    return " · ".join(filter(None, [found["outcome"], f"{name}: {value}"]))


def _classes(rows: Any) -> str:
    known = [(row["after"] if row["after"] is not None else row["before"], row["name"]) for row in rows]
    known = [row for row in known if row[0] is not None]
    if not known:
        return ""
    share, name = min(known)
    return f"lowest: {share:.2f} of class {name}"


def _cost(record: RunRecord, steps: Any) -> str:
    kinds = [step["kind"] for step in steps]
    ways = len(record.measured)
    told = [f"{ways} ways of sampling measured"] if ways else []
    return " · ".join([*told, *([" → ".join(kinds)] if kinds else [])])


def _data(data: Mapping[str, Any], audit: Mapping[str, Any]) -> str:
    if not data:
        return ""
    found = len(audit.get("findings") or ())
    told = f"{found} finding{'' if found == 1 else 's'}" if found else "nothing found by the audit"
    return f"{data['name']}: {data['sizes']} · {told if audit else 'not audited'}"


def _versions(versions: Mapping[str, Any], signatures: Any) -> str:
    named = [f"{name} {versions[name]}" for name in ("niwaki", "torch", "openvino") if versions.get(name)]
    told = f"{count_text(len(signatures))} signature{'' if len(signatures) == 1 else 's'}"
    return " · ".join([*named, *([told] if signatures else [])])


def _judge(judge: Mapping[str, Any]) -> str:
    if judge["rows"]:
        row = judge["rows"][0]
        change = f"{row['before']} → {row['after']}" if judge["both"] else row["before"]
        return f"{row['name']}: {change}"
    return f"{len(judge['exhibits'])} shown" if judge["exhibits"] else ""
