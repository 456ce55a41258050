"""The last word before the test split: exported bundles, timed in turns, judged on fresh validation seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from niwaki.core.contract import NiwakiError
from niwaki.workflow.reasons import refuse_full_disk
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.holding import keep_bundle
from niwaki.workflow.searching.measuring import measure_bundles
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import bundle_of, carry_out

__all__ = ["confirm"]

_FRESH = 1 << 20
"""Added to the rehearsal's seed: samples that no choice has looked at."""
_MOST = 5
"""Times as many again, where they would settle it."""


def confirm(search: Search, candidates: Sequence[Candidate], *, seconds: float) -> list[Candidate]:
    """Export, measure and judge again; those that fail say why.

    seconds: for the timing
    """
    exported: list[tuple[Candidate, Path]] = []
    memory = search.budget.memory
    for candidate in candidates:
        search.run.reporter.stage("finals", f"export: {candidate.choices.origin}")
        try:
            exported.append((candidate, carry_out(search, candidate, exports=True).bundle))
        except NiwakiError as error:
            refuse_full_disk(error)
            candidate.reason = str(error)
            search.enter(candidate)
    if not exported:
        return []
    measured = measure_bundles(search, [path for _, path in exported], seconds=seconds, memory=memory)
    for (candidate, path), costs in zip(exported, measured, strict=True):
        candidate.measured = {**costs, "evaluations": candidate.predicted.get("evaluations", 1.0)}
        try:
            _judge(search, candidate, path)
        except NiwakiError as error:
            refuse_full_disk(error)
            candidate.reason = str(error)
        search.enter(candidate)
        keep_bundle(search, candidate)
    return [candidate for candidate, _ in exported]


def _judge(search: Search, candidate: Candidate, path: Path) -> None:
    """On fresh samples; where these leave an axis open and some times as many would settle it, on those."""
    rehearsal, n = search.rehearsal, search.afforded.few(search.rehearsal.n)
    fresh = search.afforded.renews(rehearsal.n)
    for again in range(2):
        words = f"{n:,} {'fresh ' if fresh else ''}samples of the bundle: {candidate.choices.origin}"
        search.run.reporter.stage("finals", words)
        seed = rehearsal.seed + _FRESH * (1 + again) * fresh
        candidate.losses = rehearsal.losses(bundle_of(search, path), n=n, seed=seed)
        candidate.drawn = n
        candidate.bundled = True
        needed = max((loss.needed or 0 for loss in candidate.losses.values()), default=0)
        late = needed * search.afforded.judged > max(search.clock.left, 0.0)
        if (
            late
            or not n < needed <= _MOST * n
            or any(loss.outcome == "loss" for loss in candidate.losses.values())
        ):
            return
        n = needed
