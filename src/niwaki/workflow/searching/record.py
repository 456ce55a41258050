"""What a search found: candidates, the front, what was chosen, or why nothing was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from niwaki.compression.search.front import nondominated
from niwaki.report.records import Record
from niwaki.workflow.searching.candidate import Candidate, excess

__all__ = ["SearchRecord", "front_of", "rows_of"]


@dataclass(frozen=True)
class SearchRecord(Record):
    """A search as it ended.

    run:        directory of the result
    budget:     as it was asked for; limits: in units, by key
    before:     what the model costs in torch, eager float32, by key
    candidates: `name`, `origin`, `costs`, `measured` (which of them were), `losses` in margins by axis on
                validation samples, `inside` the budget, `front`, `trained` steps, `reason`
    chosen:     name of the candidate that ships; None where none does
    meets:      whether it keeps the budget
    plan:       its steps, as in a recipe's section `compress`
    refusal:    why nothing was chosen: `text`, and what is `nearest`; empty where something was
    verdict:    by axis, of the bundle on the test split; empty where nothing was chosen
    explanation: where the loss of the best one came from, step by step and group by group; empty where none
                was asked for
    remedies:   what would take it away, the cheapest first: `text`, `costs`, `fewer` margins
    sizes:      of further sizes `size`, `limits`, `chosen`, `costs`, `verdict`, `bundle`, `bytes`, `plan`
    prices:     how well costs are predicted, in words, by cost
    ranking:    how well these single changes rank trained plans, in words; empty where too few were trained
    weights:    how many single changes were tried
    seconds:    that were given; spent: that it took
    stopped:    whether it was ended by hand
    workers:    candidates that were tried side by side
    held:       bytes of `study/`, which a second call goes on from
    """

    file: ClassVar[str] = "search.json"
    version: ClassVar[int] = 1
    run: str = ""
    budget: str = ""
    limits: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    candidates: list[dict[str, Any]] = field(default_factory=list)
    chosen: str | None = None
    meets: bool = False
    plan: list[dict[str, Any]] = field(default_factory=list)
    refusal: dict[str, Any] = field(default_factory=dict)
    explanation: dict[str, Any] = field(default_factory=dict)
    remedies: list[dict[str, Any]] = field(default_factory=list)
    verdict: dict[str, Any] = field(default_factory=dict)
    bundle: str | None = None
    report: str | None = None
    sizes: list[dict[str, Any]] = field(default_factory=list)
    prices: dict[str, str] = field(default_factory=dict)
    ranking: str = ""
    weights: int = 0
    seconds: float = 0.0
    spent: float = 0.0
    stopped: bool = False
    workers: int = 1
    held: int = 0


def front_of(candidates: Mapping[str, Candidate], keys: tuple[str, ...]) -> set[str]:
    """Names of tried candidates that no other equals or beats in all costs and both losses. A loss below 0 is
    none."""
    tried = [c for c in candidates.values() if c.losses and all(key in c.costs for key in keys)]
    axes = sorted({axis for c in tried for axis in c.losses})
    points = [
        [c.costs[key] for key in keys] + [max(0.0, c.losses[a].value) if a in c.losses else 0.0 for a in axes]
        for c in tried
    ]
    return {tried[i].name for i in nondominated(points)} if tried else set()


def rows_of(
    candidates: Mapping[str, Candidate], limits: Mapping[str, float], keys: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Tried candidates for a table: within the budget first, those that lost least before the others."""
    front = front_of(candidates, keys)
    tried = sorted(
        (c for c in candidates.values() if c.losses or c.reason),
        key=lambda c: (excess(c, limits) > 0, c.worst),
    )
    return [
        {
            "name": c.name,
            "origin": c.choices.origin,
            "costs": c.costs,
            "measured": sorted(c.measured),
            "losses": {axis: vars(loss) for axis, loss in c.losses.items()},
            "lossless": c.lossless,
            "inside": excess(c, limits) <= 0,
            "front": c.name in front,
            "trained": sum(c.trained),
            "drawn": c.drawn,
            "bundled": c.bundled,
            "at": round(c.at, 1),
            "history": [list(pair) for pair in c.history],
            "reason": c.reason,
        }
        for c in tried
    ]
