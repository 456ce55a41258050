"""Remedies of a loss, the cheapest first, and trying them: one group rounded less, one cut less."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from niwaki.compression.search.budget import cost_text
from niwaki.compression.search.choices import FLOAT, Choices
from niwaki.workflow.searching.candidate import Candidate, excess
from niwaki.workflow.searching.explaining import Explanation
from niwaki.workflow.searching.pricing import Prices
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import try_candidate

__all__ = ["Remedy", "remedies", "repair"]

_NOTCH = 0.125
"""Share of a coupling's channels that come back."""
_RETRAINED = 100
"""Steps of training with rounded weights, at least."""
_REGAINED = 0.7
"""Share of what rounding has lost that such training is expected to bring back."""
_LEAST = 0.05
"""Margins that a remedy has to take away."""


@dataclass(frozen=True)
class Remedy:
    """text: in words; costs: predicted with it, by key; fewer: margins that it should take away"""

    text: str
    choices: Choices
    costs: dict[str, float]
    fewer: float
    dearer: float

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "costs": dict(self.costs), "fewer": self.fewer}


def remedies(search: Search, prices: Prices, candidate: Candidate, found: Explanation) -> list[Remedy]:
    """Those that keep the budget first; of them the one that costs least for what it takes away."""
    out = []
    for text, choices, fewer in _changes(candidate, found):
        if fewer < _LEAST:
            continue
        costs = prices.predict(search.units.profile(choices))
        before = candidate.predicted or prices.predict(search.units.profile(candidate.choices))
        dearer = sum(max(0.0, costs[k] / max(before[k], 1e-12) - 1.0) for k in search.limits if k in costs)
        told = ", ".join(f"{key} {cost_text(key, costs[key])}" for key in search.limits if key in costs)
        out.append(Remedy(f"{text}: {told}", choices, costs, fewer, dearer))
    return sorted(
        out, key=lambda r: (excess(Candidate(r.choices, r.costs), search.limits) > 0, r.dearer / r.fewer)
    )


def _changes(candidate: Candidate, found: Explanation) -> Iterator[tuple[str, Choices, float]]:
    """In words, the choices, and the margins that it should take away."""
    choices = candidate.choices
    cut = sum(one.fewer for one in found.undone if one.what != "rounded") or 1.0
    before_rounding = [
        max(loss.value for loss in losses.values()) for kind, losses in found.steps if kind != "quantize"
    ]
    left = max(before_rounding[-1], 0.0) if before_rounding else candidate.worst
    by_rounding = candidate.worst - left
    if by_rounding > _LEAST and not choices.retrained and candidate.trained:
        steps = max(_RETRAINED, candidate.trained[-1] // 2)
        words = f"{steps:,} steps of training with rounded weights"
        yield words, choices.without(retrained=steps, origin=words), _REGAINED * by_rounding
    for one in found.undone:
        if one.what == "rounded":
            bits = 8 if choices.bits[one.name] < 8 else FLOAT
            words = f"'{one.name}' with {'8 bits' if bits == 8 else 'float weights'}"
            yield words, choices.without(bits={**choices.bits, one.name: bits}, origin=words), one.fewer
        elif one.what == "dropped":
            words = f"the block '{one.name}' back"
            yield words, one.choices.without(origin=words), left * one.fewer / cut
        else:
            ratio = max(0.0, choices.ratios[one.name] - _NOTCH)
            words = f"{_NOTCH:.0%} more channels in '{one.name}'"
            share = left * one.fewer / cut * _NOTCH / max(choices.ratios[one.name], _NOTCH)
            yield words, choices.without(ratios={**choices.ratios, one.name: ratio}, origin=words), share


def repair(search: Search, candidate: Candidate, remedy: Remedy) -> Candidate:
    """The candidate with that remedy, trained as far as it was: what is the same is found again."""
    words = f"{candidate.choices.origin}; {remedy.choices.origin}"
    made = Candidate(remedy.choices.without(origin=words), dict(remedy.costs))
    if made.name in search.candidates:
        return search.candidates[made.name]
    made.trained = candidate.trained
    same = made.choices.dropped == candidate.choices.dropped
    if same and dict(made.choices.ratios) == dict(candidate.choices.ratios):
        before, here = search.directory(candidate) / "steps", search.directory(made) / "steps"
        if before.is_dir() and not here.exists():
            shutil.copytree(before, here)
    search.run.reporter.stage("repair", remedy.text)
    return try_candidate(search, made)
