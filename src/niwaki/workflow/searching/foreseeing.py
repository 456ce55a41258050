"""Which plans of a dear model are tried first: what a whole plan does to the outputs of the network.

What single groups cost does not add up where much is cut. One cut of the whole plan, solved again, and one
call of the network tell more than their sum, and take seconds where judging takes many.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from niwaki.compression.search.choices import Choices
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.part_trials import cut_and_solved
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.weights import Weights

__all__ = ["foreseen"]

_MOST = 12
"""Plans within the budget that are looked at."""


def foreseen(search: Search, pool: Sequence[Candidate], weights: Weights, seconds: float) -> list[Candidate]:
    """The pool in another order: of the plans within the budget those first that are expected to lose least,
    by the errors of the network's outputs at the rate of margins that measured changes have cost. As it is
    where no errors were measured, for all changes were judged then: what they cost is expected together."""
    if weights.probe is None or weights.rate() is None:
        for candidate in pool if weights.rows else ():
            candidate.expected = max(weights.whole(candidate.choices))
        return list(pool)
    inside = [c for c in pool if c.fits(search.limits)][:_MOST]
    until, found = time.monotonic() + seconds, dict[str, float]()
    for candidate in inside:
        if time.monotonic() > until:
            break
        try:
            found[candidate.name] = candidate.expected = _expected(search, candidate.choices, weights)
        except NiwakiError:
            continue
    known = sorted((c for c in inside if c.name in found), key=lambda c: found[c.name])
    if known:
        search.run.reporter.note(
            f"of {len(known)} plans that were cut untrained, '{known[0].choices.origin}' is expected to lose "
            f"least ({found[known[0].name]:.2g} margins before training, the last of them "
            f"{found[known[-1].name]:.2g})"
        )
    return [*known, *(c for c in pool if c.name not in found)]


def _expected(search: Search, choices: Choices, weights: Weights) -> float:
    """Margins on the worse axis, before any training."""
    assert weights.probe is not None
    error = weights.probe.error.of(_cut(search, choices, weights))
    error += sum(weights.rounding_error(layer, b) for layer, b in choices.left(choices.bits).items())
    rates = weights.rate()
    assert rates is not None
    return max(rate * error + lost for rate, lost in zip(rates, weights.sampled(choices), strict=True))


def _cut(search: Search, choices: Choices, weights: Weights) -> GenerativeModel:
    """Cut as the plan cuts, untrained; where blocks are left out, not solved again."""
    units, ratios = search.units, choices.left(choices.ratios)
    if choices.dropped or not choices.cuts:
        return units.cut(ratios, choices.dropped)
    probe = weights.probe
    assert probe is not None
    return cut_and_solved(search, probe.base, ratios, lambda: probe.inputs)
