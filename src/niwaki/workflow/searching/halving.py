"""Successive halving: many candidates are trained a little, the better third of them more, and so on; each
goes on from where it was (Jamieson & Talwalkar 2016; Li et al. 2018). Rungs are priced by measured speed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.holding import drop_what_waits_for_nothing
from niwaki.workflow.searching.snapshots import take_snapshot
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import try_all, try_candidate

__all__ = ["halve"]

_ETA = 3
_MOST = 27
_PROBE = 3
"""Steps of the first training, which tells how fast training is."""
_LEAST = 20
"""Steps of a training, where there is time for them."""
_GROWS = 2.0
"""The last candidate is trained in pieces, each longer by this factor, and judged after each."""
_HELPS = 0.9
"""Share of its loss that a candidate keeps at most, where two trainings have helped it."""
_DEAR = 0.2
"""Share of a candidate's time in a round that judging it on all samples may take; where it takes more, blocks
of them may tell enough."""
_BEGUN = 3
"""Times the steps that there is time for: so long a training that was begun is ended."""
_WAIT = 3
"""Candidates within the budget that were left behind and whose training may yet go on."""
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
    pool = [c for c in pool if not c.snapshot]
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
    overhead = _probed(search, alive[: search.width], on_tried)
    many = search.width * int(search.clock.left / _ETA / (2.0 * overhead))
    first = min(len(alive), max(search.width, min(_MOST, many)))
    rungs = 1 + max(0, math.floor(math.log(first / min(first, search.width), _ETA) + 1e-9))
    alive = alive[:first]
    search.run.reporter.note(_bought(search, alive, rungs, overhead))
    for rung in range(rungs):
        last = rung + 1 == rungs
        if last:
            _to_the_end(search, alive, _waiting(search, pool, alive), overhead, on_tried, found)
            return
        together = _side_by_side(alive, search.width)
        each = search.clock.left / (rungs - rung) / len(together)
        for k, some in enumerate(together):
            if search.clock.left < overhead:
                return
            which = f"{k * search.width + 1}" + (f" to {k * search.width + len(some)}" if some[1:] else "")
            search.run.reporter.stage(
                "search", f"round {rung + 1} of {rungs}, candidate {which} of {len(alive)}: {_words(some)}"
            )
            for candidate in _further(search, some, each - overhead):
                on_tried(candidate)
        alive = [c for c in alive if c.losses]
        alive = _better(search, alive, max(search.width, len(alive) // _ETA))
        if not alive:
            return
        drop_what_waits_for_nothing(search, [*alive, *_waiting(search, pool, alive)[:_WAIT]])


def _bought(search: Search, alive: Sequence[Candidate], rungs: int, overhead: float) -> str:
    """What the time that is left will be spent on."""
    tried = sum(max(1, len(alive) // _ETA**rung) for rung in range(rungs))
    steps = max(0.0, search.clock.left - tried * overhead) / max(_rate(search), 1e-4)
    return (
        f"{max(search.clock.left, 0.0):.0f} s are left for training: {len(alive)} plans in {rungs} rounds, "
        f"about {steps:,.0f} steps in all ({_rate(search):.2g} s a step, {overhead:.2g} s for judging a plan)"
    )


def _waiting(search: Search, pool: Sequence[Candidate], alive: Sequence[Candidate]) -> list[Candidate]:
    """Those within the budget that were left behind, the best first."""
    left = [c for c in pool if c.losses and not c.reason and c not in alive and _inside(search, c)]
    return sorted(left, key=lambda c: c.worst)


def _probed(search: Search, some: Sequence[Candidate], on_tried: OnTried) -> float:
    """Seconds beside the training that trying candidates side by side takes."""
    search.run.reporter.stage("search", f"how fast training is: {_words(some)}")
    for candidate in some:
        if not candidate.trained:
            _train_on(search, candidate, _PROBE)
    began = time.monotonic()
    for candidate in try_all(search, some):
        on_tried(candidate)
    return max(0.2, time.monotonic() - began - _PROBE * max(c.each for c in some))


def _further(search: Search, some: Sequence[Candidate], seconds: float) -> Iterator[Candidate]:
    """Train them on side by side for about so long, and judge: in blocks of samples where that takes a good
    part of the time."""
    for candidate in some:
        steps, begun = _steps(search, candidate, seconds), search.begun(candidate)
        if begun is not None and begun <= _BEGUN * steps:
            steps = begun  # of a call that was killed; its training goes on
        _train_on(search, candidate, steps)
    judging = max(_judging(search, candidate) for candidate in some)
    return try_all(search, some, blocks=judging > _DEAR * seconds)


def _train_on(search: Search, candidate: Candidate, steps: int) -> None:
    """So many more, when it is tried next; what it is now is set aside."""
    take_snapshot(search, candidate)
    candidate.trained = (*candidate.trained, steps)


def _steps(search: Search, candidate: Candidate, seconds: float) -> int:
    """Of a training that takes about so long."""
    finetune = search.template.finetune
    assert finetune is not None
    each = max(candidate.each or _rate(search), 1e-4)
    steps = max(_LEAST, int(seconds / each))
    return min(steps, _ENOUGH * finetune.steps, max(1, int(search.clock.left / each)))


def _judging(search: Search, candidate: Candidate) -> float:
    """Seconds of judging it on all samples, about."""
    return candidate.judging * search.rehearsal.n / max(candidate.drawn, 1)


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
        while waiting and len(alive) < search.width:
            alive.append(waiting.pop(0))
        for candidate in _in_turns(search, list(alive), piece, overhead):
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
        if search.clock.left <= overhead + _worth_it(search, alive):
            return
        piece *= _GROWS


def _in_turns(
    search: Search, alive: Sequence[Candidate], piece: float, overhead: float
) -> Iterator[Candidate]:
    """All of them, side by side as far as there are workers, as long as there is time."""
    for some in _side_by_side(alive, search.width):
        if search.clock.left < overhead + _worth_it(search, some):
            return
        search.run.reporter.stage("search", f"the best of them is trained on: {_words(some)}")
        yield from _further(search, some, min(piece, search.clock.left - overhead))


def _worth_it(search: Search, some: Sequence[Candidate]) -> float:
    """Seconds of training that must be left, so that one more is worth it."""
    return min(_LEAST * max((c.each for c in some), default=0.0), 0.1 * search.clock.seconds)


def _stands(candidate: Candidate) -> bool:
    """Whether its last two trainings have brought it nothing."""
    if len(candidate.history) < 3:
        return False
    *_, before, _, _ = (loss for _, loss in candidate.history)
    return candidate.worst > 0.0 and candidate.worst > _HELPS * before


def _side_by_side(candidates: Sequence[Candidate], width: int) -> list[Sequence[Candidate]]:
    return [candidates[k : k + width] for k in range(0, len(candidates), width)]


def _words(some: Sequence[Candidate]) -> str:
    first, done = some[0].choices.origin, sum(some[0].trained)
    told = first + (f", {done:,} steps so far" if done else "")
    return told + (f", and {len(some) - 1} beside it" if some[1:] else "")
