"""The last word before the test split: exported bundles, timed in turns, judged on fresh validation seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from niwaki.core.contract import NiwakiError
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.measuring import measure_bundles
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import bundle_of, carry_out

__all__ = ["FRESH", "confirm"]

FRESH = 1 << 20
"""Added to the rehearsal's seed: samples that no choice has looked at."""
_MORE = 3
"""Times as many of them as the choices rested on."""


def confirm(search: Search, candidates: Sequence[Candidate], *, seconds: float) -> list[Candidate]:
    """Export, measure and judge again; those that fail say why.

    seconds: for the timing
    """
    exported: list[tuple[Candidate, Path]] = []
    memory = any(one.cost == "memory" for one in search.budget.limits)
    for candidate in candidates:
        search.run.reporter.stage("finals", f"export: {candidate.choices.origin}")
        try:
            exported.append((candidate, carry_out(search, candidate, exports=True).bundle))
        except NiwakiError as error:
            candidate.reason = str(error)
            search.enter(candidate)
    if not exported:
        return []
    measured = measure_bundles(search, [path for _, path in exported], seconds=seconds, memory=memory)
    n = _MORE * search.rehearsal.n
    for (candidate, path), costs in zip(exported, measured, strict=True):
        candidate.measured = {**costs, "evaluations": candidate.predicted.get("evaluations", 1.0)}
        search.run.reporter.stage("finals", f"{n:,} fresh samples of the bundle: {candidate.choices.origin}")
        try:
            seed = search.rehearsal.seed + FRESH
            candidate.losses = search.rehearsal.losses(bundle_of(search, path), n=n, seed=seed)
            candidate.bundled = True
        except NiwakiError as error:
            candidate.reason = str(error)
        search.enter(candidate)
    return [candidate for candidate, _ in exported]
