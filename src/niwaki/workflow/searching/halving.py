"""Successive halving: many candidates are trained a little, the better third of them more, and so on; each
goes on from where it was (Jamieson & Talwalkar 2016; Li et al. 2018). Rungs are priced by measured speed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import try_candidate

__all__ = ["halve"]

_ETA = 3
_MOST = 27
_PROBE = 20
"""Steps of the first training, which tells how fast training is."""
_GROWS = 2.0
"""The last candidate is trained in pieces, each longer by this factor, and judged after each."""
_HELPS = 0.9
"""Share of its loss that a candidate keeps at most, where two trainings have helped it."""
_ENOUGH = 4
"""Times the steps of the recipe's fine-tuning, after which more of it is not tried."""

OnTried = Callable[[Candidate], None]


def halve(
    search: Search, pool: Sequence[Candidate], on_tried: OnTried, found: Callable[[Candidate], bool]
) -> None:
    """Train and judge candidates as long as there is time.

    pool:     the most promising first
    on_tried: called after each
    found:    whether a candidate that seems to have lost nothing meets the budget for certain: then the
              search is over
    """
    alive = [c for c in pool if not c.reason]
    if not alive:
        return
    if search.template.finetune is None:
        for candidate in alive:
            if search.clock.left <= 0:
                return
            on_tried(try_candidate(search, candidate))
            if candidate.lossless and candidate.fits(search.limits, 0.0) and found(candidate):
                return
        return
    overhead = _probed(search, alive[0], on_tried)
    first = max(1, min(_MOST, len(alive), int(search.clock.left / _ETA / (2.0 * overhead))))
    rungs = 1 + max(0, math.floor(math.log(first, _ETA) + 1e-9))
    alive = alive[:first]
    search.run.reporter.note(_bought(search, alive, rungs, overhead))
    for rung in range(rungs):
        last = rung + 1 == rungs
        if last:
            left = [c for c in pool if c.losses and not c.reason and c not in alive and _inside(search, c)]
            waiting = sorted(left, key=lambda c: c.worst)
            _to_the_end(search, alive, waiting, overhead, on_tried, found)
            return
        each = search.clock.left / (rungs - rung) / len(alive)
        for k, candidate in enumerate(alive):
            if search.clock.left < overhead:
                return
            search.run.reporter.stage(
                "search",
                f"round {rung + 1} of {rungs}, candidate {k + 1} of {len(alive)}: {_words(candidate)}",
            )
            _further(search, candidate, each - overhead)
            on_tried(candidate)
        alive = [c for c in alive if c.losses]
        alive = _better(search, alive, max(1, len(alive) // _ETA))
        if not alive:
            return


def _bought(search: Search, alive: Sequence[Candidate], rungs: int, overhead: float) -> str:
    """What the time that is left will be spent on."""
    tried = sum(max(1, len(alive) // _ETA**rung) for rung in range(rungs))
    steps = max(0.0, search.clock.left - tried * overhead) / max(_rate(search), 1e-4)
    return (
        f"{max(search.clock.left, 0.0):.0f} s are left for training: {len(alive)} plans in {rungs} rounds, "
        f"about {steps:,.0f} steps in all ({_rate(search):.2g} s a step, {overhead:.2g} s for judging a plan)"
    )


def _probed(search: Search, candidate: Candidate, on_tried: OnTried) -> float:
    """Seconds beside the training that trying a candidate takes."""
    search.run.reporter.stage("search", f"how fast training is: {_words(candidate)}")
    if not candidate.trained:
        candidate.trained = (_PROBE,)
    began = time.monotonic()
    on_tried(try_candidate(search, candidate))
    return max(0.2, time.monotonic() - began - _PROBE * candidate.each)


def _further(search: Search, candidate: Candidate, seconds: float) -> None:
    """Train on for about so long, and judge."""
    each = candidate.each or _rate(search)
    finetune = search.template.finetune
    assert finetune is not None
    steps = max(_PROBE, int(seconds / max(each, 1e-4)))
    steps = min(steps, _ENOUGH * finetune.steps)
    candidate.trained = (*candidate.trained, steps)
    try_candidate(search, candidate)


def _rate(search: Search) -> float:
    """Seconds of a step, as far as other candidates tell."""
    known = [c.each for c in search.candidates.values() if c.each]
    return sorted(known)[len(known) // 2] if known else 0.05


def _better(search: Search, alive: list[Candidate], many: int) -> list[Candidate]:
    """Those within the budget that lost least; beside them the best of the wider budgets where none of them
    comes near."""
    inside = sorted((c for c in alive if _inside(search, c)), key=lambda c: c.worst)
    outside = sorted((c for c in alive if not _inside(search, c)), key=lambda c: c.worst)
    chosen = inside[:many]
    settled = any(c.lossless for c in search.candidates.values())
    if many > 1 and outside and not settled and (not chosen or chosen[0].worst > 1.0):
        chosen = [*chosen[: many - 1], outside[0]]
    return chosen or outside[:1]


def _inside(search: Search, candidate: Candidate) -> bool:
    return candidate.fits(search.limits)


def _to_the_end(
    search: Search,
    alive: list[Candidate],
    waiting: list[Candidate],
    overhead: float,
    on_tried: OnTried,
    found: Callable[[Candidate], bool],
) -> None:
    """The last ones in turns, in pieces that grow, until one has lost nothing or time is over. Where training
    does not help one any more, the next of those that wait takes its place."""
    finetune = search.template.finetune
    assert finetune is not None
    piece = first = max(2.0 * overhead, 0.1 * search.clock.left)
    while alive and search.clock.left > overhead:
        for candidate in list(alive):
            if search.clock.left < overhead + _PROBE * candidate.each:
                return
            search.run.reporter.stage("search", f"the best of them is trained on: {_words(candidate)}")
            _further(search, candidate, min(piece, search.clock.left - overhead))
            on_tried(candidate)
            if candidate.lossless and _inside(search, candidate) and found(candidate):
                return
            enough = sum(candidate.trained) >= 3 * _ENOUGH * finetune.steps
            shown = candidate.lossless and not _inside(search, candidate)
            if candidate.reason or enough or _stands(candidate) or (shown and len(alive) > 1):
                alive.remove(candidate)
                if waiting:
                    alive.append(waiting.pop(0))
                    piece = first
        piece *= _GROWS


def _stands(candidate: Candidate) -> bool:
    """Whether its last two trainings have brought it nothing."""
    if len(candidate.history) < 3:
        return False
    *_, before, _, _ = (loss for _, loss in candidate.history)
    return candidate.worst > 0.0 and candidate.worst > _HELPS * before


def _words(candidate: Candidate) -> str:
    done = sum(candidate.trained)
    return candidate.choices.origin + (f", {done:,} steps so far" if done else "")
