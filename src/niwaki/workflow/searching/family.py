"""A family from one search: beside the plan of the budget those of wider ones, from the same trained
candidates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from niwaki.core.contract import CallError
from niwaki.deployment import bundle_bytes
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.finishing import brief_plan, choose, comfortable, ship
from niwaki.workflow.searching.halving import halve
from niwaki.workflow.searching.pricing import Prices
from niwaki.workflow.searching.proposing import propose
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import plan_of
from niwaki.workflow.searching.weights import Weights

__all__ = ["Member", "grow", "names", "widths"]

_WIDER = 2.0
"""Each size may cost so many times what the one before may."""
_MOST = 5
_TRIED = 3
"""Candidates that are trained on for a size that none of the trained ones meets."""


@dataclass(frozen=True)
class Member:
    """One size. chosen is None where nothing within its limits lost nothing."""

    size: str
    limits: dict[str, float]
    chosen: str | None = None
    costs: dict[str, float] | None = None
    verdict: dict[str, Any] | None = None
    bundle: str | None = None
    bytes: int | None = None
    plan: list[dict[str, Any]] | None = None


def names(many: int) -> list[str]:
    """`small`, `medium`, `large`, or numbers. Raises CallError for fewer than one and more than five."""
    if not 1 <= many <= _MOST:
        raise CallError(f"sizes: from 1 to {_MOST}, not {many}")
    return ["small", "medium", "large"][:many] if many <= 3 else [f"size-{k + 1}" for k in range(many)]


def widths(many: int) -> tuple[float, ...]:
    """By how much the budget of each size is wider than what was asked for."""
    return tuple(_WIDER**k for k in range(many))


def grow(found: Search, prices: Prices, weights: Weights, many: int, *, seconds: float) -> list[Member]:
    """The further sizes, from the second on, each as a run of its own in `sizes/`.

    seconds: for training on, of all sizes together
    """
    out = []
    for k, (size, wider) in enumerate(zip(names(many), widths(many), strict=True)):
        if k == 0:
            continue
        limits = {key: value * wider for key, value in found.limits.items()}
        wide = replace(found, limits=limits)
        chosen = _chosen(wide, prices, weights, seconds / (many - 1))
        if chosen is None:
            out.append(Member(size, limits))
            continue
        plan = plan_of(wide, chosen)
        made = ship(wide, chosen, plan, found.run.run.path / "sizes" / size)
        out.append(
            Member(
                size,
                limits,
                chosen.name,
                chosen.costs,
                made.run.stage("verdict").get("verdict", {}),
                str(made.run.bundle),
                bundle_bytes(made.run.bundle),
                brief_plan(plan)["steps"],
            )
        )
    return out


def _chosen(wide: Search, prices: Prices, weights: Weights, seconds: float) -> Candidate | None:
    """The safest of those that are known to have lost nothing; where none of them lost little, others of its
    limits are trained first."""
    known = choose(wide, beyond=False)
    if known is not None and comfortable(known):
        return known
    pool = [c for c in propose(wide, prices, weights, (1.0,)) if c is not known]
    kept = wide.clock.reserve
    wide.clock.reserve = max(kept, wide.clock.seconds - wide.clock.spent - seconds)
    halve(wide, pool[:_TRIED], lambda c: None, lambda c: choose(wide, beyond=False) is c)
    wide.clock.reserve = kept
    return choose(wide, beyond=False)
