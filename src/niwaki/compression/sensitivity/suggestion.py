"""From sensitivity to settings: how far each layer can go, for a damage that is tolerated in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from niwaki.compression.sensitivity.entry import Entry, Sensitivity
from niwaki.core.contract import CallError

__all__ = ["Suggestion", "suggest"]


@dataclass(frozen=True)
class Suggestion:
    """layers: for `quantize`: layer → `{"bits": …}`, or `float`; ratios: for `prune`: layer → share to cut, 0
    where none; fidelity, diversity: margins that this costs, if damage adds up; bytes: saved."""

    layers: dict[str, Any]
    ratios: dict[str, float]
    fidelity: float
    diversity: float
    bytes: int


def suggest(found: Sensitivity, tolerated: float = 1.0) -> Suggestion:
    """Go on with the layer that saves most bytes per damage, until an axis would lose more than `tolerated`
    margins.

    Damage is taken to add up over layers, and gains are taken for nothing: a first guess for a plan, which
    only a verdict on the whole can judge. Raises CallError where nothing is tolerated.
    """
    if not tolerated > 0:
        raise CallError(f"the damage that is tolerated must be above 0, not {tolerated}")
    options: dict[tuple[str, str], list[Entry]] = {}
    for entry in found.entries:
        if entry.fidelity is not None and entry.technique != "activations":
            options.setdefault((entry.layer, entry.technique), []).append(entry)
    taken: dict[tuple[str, str], Entry | None] = dict.fromkeys(options)
    spent = (0.0, 0.0)
    while True:
        best: tuple[float, Entry, tuple[float, float]] | None = None
        for place, entries in options.items():
            now = taken[place]
            for entry in entries:
                gain = entry.bytes - (now.bytes if now else 0)
                cost = tuple(a - b for a, b in zip(_cost(entry), _cost(now), strict=True))
                total = (spent[0] + cost[0], spent[1] + cost[1])
                if gain <= 0 or max(total) > tolerated:
                    continue
                rate = gain / max(*cost, 1e-3)
                if best is None or rate > best[0]:
                    best = (rate, entry, total)
        if best is None:
            break
        taken[best[1].layer, best[1].technique], spent = best[1], best[2]
    layers = {
        layer: {"bits": int(e.strength)} if e else "float"
        for (layer, technique), e in taken.items()
        if technique == "weights"
    }
    ratios = {
        layer: e.strength if e else 0.0 for (layer, technique), e in taken.items() if technique == "prune"
    }
    return Suggestion(layers, ratios, *spent, sum(e.bytes for e in taken.values() if e))


def _cost(entry: Entry | None) -> tuple[float, float]:
    """Damage by axis, at least 0."""
    if entry is None or entry.fidelity is None or entry.diversity is None:
        return (0.0, 0.0)
    return (max(entry.fidelity.value, 0.0), max(entry.diversity.value, 0.0))
