"""What a search tried: every plan by its bytes and its milliseconds, what each lost, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from niwaki.compression.search.budget import cost_text
from niwaki.report.figures import Chart, scatter
from niwaki.report.record import RunRecord

__all__ = ["FoundPlans", "found_plans"]

_KINDS = ("no loss", "undecided", "loss")
_MOST = 16


@dataclass(frozen=True)
class Row:
    """mark: `chosen`, `front` or nothing; costs, losses: (text, tone)"""

    mark: str
    costs: tuple[tuple[str, str], ...]
    losses: tuple[tuple[str, str], ...]
    steps: str
    plan: str


@dataclass(frozen=True)
class FoundPlans:
    """The section. columns: of costs; axes: of losses; left_out: rows that are not shown"""

    gist: str
    about: str
    chart: Chart
    columns: tuple[str, ...]
    axes: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: int
    sentences: tuple[str, ...]


def found_plans(record: RunRecord) -> FoundPlans | None:
    """None where nothing was searched."""
    found = record.search
    tried = [row for row in found.get("candidates") or [] if row["losses"]]
    if not tried:
        return None
    limits: Mapping[str, float] = found["limits"]
    columns = tuple(limits)
    axes = tuple(dict.fromkeys(axis for row in tried for axis in row["losses"]))
    rows = [_row(row, columns, axes, found) for row in tried]
    told = [found["refusal"]["text"]] if found.get("refusal") else []
    told += [text for text in [(found.get("explanation") or {}).get("text", "")] if text]
    if found.get("remedies"):
        told.append("The cheapest remedies: " + "; ".join(r["text"] for r in found["remedies"][:3]) + ".")
    prices = "; ".join(f"{what}: {text}" for what, text in (found.get("prices") or {}).items())
    if found.get("ranking"):
        told.append(f"Single changes: {found['ranking']}.")
    if prices:
        told.append(f"How well costs were predicted: {prices}.")
    return FoundPlans(
        _gist(found, len(tried)),
        f"Searched for {found['budget']}, in {found['spent']:.0f} s of {found['seconds']:.0f} s.",
        _chart(tried, found),
        columns,
        axes,
        tuple(rows[:_MOST]),
        max(0, len(rows) - _MOST),
        tuple(told),
    )


def _gist(found: Mapping[str, Any], tried: int) -> str:
    if not found.get("chosen"):
        return f"{tried} plans tried, none met {found['budget']} without a loss"
    return f"{tried} plans tried for {found['budget']}" + (
        "" if found.get("meets") else ", which is exceeded"
    )


def _row(row: Mapping[str, Any], columns: tuple[str, ...], axes: tuple[str, ...], found: Any) -> Row:
    mark = "chosen" if row["name"] == found.get("chosen") else "front" if row["front"] else ""
    return Row(
        mark,
        tuple(_cost(row, key, found["limits"][key]) for key in columns),
        tuple(_loss(row["losses"].get(axis)) for axis in axes),
        f"{row['trained']:,}",
        row["origin"],
    )


def _cost(row: Mapping[str, Any], key: str, limit: float) -> tuple[str, str]:
    if key not in row["costs"]:
        return "", ""
    text = cost_text(key, row["costs"][key])
    tone = "bad" if row["costs"][key] > limit else ""
    return (text if key in row["measured"] else f"({text})"), tone


def _loss(loss: Mapping[str, Any] | None) -> tuple[str, str]:
    if loss is None:
        return "", ""
    low, high = loss["interval"]
    tone = {"no loss": "good", "loss": "bad"}.get(loss["outcome"], "")
    return f"{loss['value']:+.2f} ({low:+.2f} … {high:+.2f})", tone


def _chart(tried: list[dict[str, Any]], found: Mapping[str, Any]) -> Chart:
    """Bytes against milliseconds, or against the worse loss where no latency is known."""
    keys = [k for k in ("latency", *found["limits"]) if k.startswith("latency")]
    second = next((k for k in keys if any(k in row["costs"] for row in tried)), "")
    groups: dict[str, list[tuple[float, float]]] = {kind: [] for kind in _KINDS}
    chosen: list[tuple[float, float]] = []
    for row in tried:
        if "size" not in row["costs"] or (second and second not in row["costs"]):
            continue
        worst = max(loss["value"] for loss in row["losses"].values())
        y = row["costs"][second] if second else max(worst, 0.0)
        point = (row["costs"]["size"] / 1e3, float(y))
        outcomes = {loss["outcome"] for loss in row["losses"].values()}
        kind = "loss" if "loss" in outcomes else "no loss" if outcomes == {"no loss"} else "undecided"
        groups[kind].append(point)
        if row["name"] == found.get("chosen"):
            chosen.append(point)
    limits = found["limits"]
    lines = (limits["size"] / 1e3 if "size" in limits else None, limits.get(second) if second else 1.0)
    titles = ("kB on disk", f"ms ({second})" if second else "margins lost on the worse axis")
    return scatter("Plans that were tried", titles, groups, chosen, lines)
