"""Which layers matter: a heat map of what each costs when it alone is pruned or rounded, and its words. And
what was said beforehand to leave the engine's fast path."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from niwaki.report.record import RunRecord

__all__ = ["Cell", "Heat", "Panel", "Warned", "heat", "off_path"]

AXES = ("fidelity", "diversity")
GROUPS = {"prune": "channels cut", "weights": "weight bits", "activations": "in"}
FULL = 30.0
"""Margins lost at which the colour is full: what is cut and not trained on costs many."""

_KEY = (("a gain", -2.0), ("no change", 0.0), ("a margin lost", 1.0), ("5", 5.0), (f"{FULL:g} or more", FULL))
_STRONG = 0.7
"""Share of the full colour on which figures are white."""


@dataclass(frozen=True)
class Cell:
    """text: margins lost; tone, style: its colour; title: the interval."""

    text: str
    tone: str = "blank"
    style: str = ""
    title: str = ""


@dataclass(frozen=True)
class Row:
    layer: str
    short: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Panel:
    axis: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Heat:
    """The section: both panels, the columns with the groups above them, the key of the colours, and in words
    what it says. starts: columns that begin a group, but for the first. pairs, more: samples of a trial, and
    of those that were repeated."""

    panels: tuple[Panel, ...]
    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    starts: tuple[int, ...]
    key: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    pairs: int
    more: int


@dataclass(frozen=True)
class Warned:
    what: str
    why: str
    share: str = ""


def heat(record: RunRecord) -> Heat | None:
    """None where the run has not measured it."""
    found = record.sensitivity
    entries = [e for e in found.get("entries") or [] if e.get("fidelity")]
    if not entries:
        return None
    places = [
        (technique, strength)
        for technique in GROUPS
        for strength in _ordered(technique, {e["strength"] for e in entries if e["technique"] == technique})
    ]
    at = {(e["layer"], e["technique"], e["strength"]): e for e in entries}
    layers = [name for name in found["layers"] if any(e["layer"] == name for e in entries)]
    short = _short(layers)
    starts = tuple(i for i, (technique, _) in enumerate(places) if i and places[i - 1][0] != technique)
    panels = tuple(
        Panel(
            axis,
            tuple(
                Row(name, short[name], tuple(_cell(at.get((name, *place)), axis) for place in places))
                for name in layers
            ),
        )
        for axis in AXES
    )
    groups = tuple(
        (title, n) for technique, title in GROUPS.items() if (n := sum(p[0] == technique for p in places))
    )
    return Heat(
        panels,
        groups,
        tuple(f"{s:.0%}" if t == "prune" else f"{s:g}" for t, s in places),
        starts,
        tuple((text, _colour(value)) for text, value in _KEY),
        _sentences(entries, short),
        min(e["n"] for e in entries),
        max(e["n"] for e in entries),
    )


def _ordered(technique: str, strengths: set[float]) -> list[float]:
    """The gentlest first."""
    return sorted(strengths, reverse=technique != "prune")


def _short(layers: Sequence[str]) -> dict[str, str]:
    """Names without the part that all of them begin with."""
    parts = [name.split(".") for name in layers]
    same = 0
    while len(layers) > 1 and len({tuple(p[: same + 1]) for p in parts}) == 1:
        same += 1
    return {name: ".".join(p[same:]) or name for name, p in zip(layers, parts, strict=True)}


def _cell(entry: Mapping[str, Any] | None, axis: str) -> Cell:
    if entry is None:
        return Cell("·")
    value, (low, high) = entry[axis]["value"], entry[axis]["interval"]
    title = f"{value:.2f} margins, 95 % interval {low:.2f} … {high:.2f}, {entry['n']} samples"
    words = {
        "strong": _share(value) > _STRONG,
        "vague": low <= 0 <= high,
        "again": entry["confirmed"],
    }
    tone = " ".join(word for word, holds in words.items() if holds)
    return Cell(_number(value), tone, _colour(value), title.replace("-", "−"))


def _number(value: float) -> str:
    """`0.3`, `−1.2`, `14`: two figures at most."""
    text = f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
    return (text if float(text) else "0").replace("-", "−")


def _colour(value: float) -> str:
    """Rust for a loss, green for a gain, the paper between; full at `FULL` margins."""
    return f"--tone: var(--{'bad' if value > 0 else 'good'}); --much: {100 * _share(value):.0f}%"


def _share(value: float) -> float:
    """Of the full colour: log(1 + |v|), so that a margin and ten can both be told from none."""
    return min(math.log1p(abs(value)) / math.log1p(FULL), 1.0)


def _sentences(entries: Sequence[Mapping[str, Any]], short: Mapping[str, str]) -> tuple[str, ...]:
    """The most sensitive layer of each axis, and in how many layers each technique surely costs a margin."""
    out = []
    for axis in AXES:
        worst = max((e for e in entries if _surely(e, axis)), key=lambda e: e[axis]["value"], default=None)
        if worst is None:
            out.append(f"No single layer surely costs a margin of {axis}, however hard it was pressed.")
            continue
        value = worst[axis]["value"]
        again = "" if worst["confirmed"] else " (not measured again)"
        costs = "costs" if worst["technique"] == "prune" else "cost"
        out.append(
            f"{axis.capitalize()} suffers most in {short[worst['layer']]}: "
            f"{_doing(worst)} {costs} {_number(value)} margins{again}."
        )
    tally = [t for technique in GROUPS if (t := _tally(technique, entries))]
    first, *others = tally
    out.append(f"{first}{''.join('; ' + t[0].lower() + t[1:] for t in others)}.")
    return tuple(out)


def _surely(entry: Mapping[str, Any], axis: str) -> bool:
    """Whether the whole interval lies beyond the margin."""
    return bool(entry[axis]["interval"][0] > 1)


def _tally(technique: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """`Weights of 8 / 4 bits surely cost more than a margin in 0 / 3 of 12 layers`; empty where it was not
    tried."""
    of = [e for e in entries if e["technique"] == technique]
    strengths = _ordered(technique, {e["strength"] for e in of})
    if not strengths:
        return ""
    over = [[any(_surely(e, a) for a in AXES) for e in of if e["strength"] == s] for s in strengths]
    named = " / ".join(f"{100 * s:.0f}" if technique == "prune" else f"{s:g}" for s in strengths)
    doing = {
        "prune": f"Cutting {named} % of the channels surely costs",
        "weights": f"Weights of {named} bits surely cost",
        "activations": f"Inputs of {named} bits surely cost",
    }[technique]
    counts = " / ".join(str(sum(o)) for o in over)
    return f"{doing} more than a margin in {counts} of {max(map(len, over))} layers"


def _doing(entry: Mapping[str, Any]) -> str:
    strength = entry["strength"]
    return {
        "prune": f"cutting {100 * strength:.0f} % of the channels",
        "weights": f"{strength:g}-bit weights",
        "activations": f"{strength:g}-bit inputs",
    }[entry["technique"]]


def off_path(record: RunRecord) -> list[Warned]:
    """What was said before compression began."""
    out = []
    for w in record.compression.get("warnings") or []:
        size = f" {'×'.join(map(str, w['shape']))}" if w.get("shape") else ""
        share = "" if w.get("share") is None else f"{w['share']:.0%} of the arithmetic"
        out.append(Warned(f"{w['operator']} {w['module']}{size}", w["reason"], share))
    return out
