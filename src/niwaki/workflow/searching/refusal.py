"""Why no plan was chosen: what comes nearest, and what is in the way."""

from __future__ import annotations

import math
from typing import Any

from niwaki.compression.search.budget import cost_text
from niwaki.report.records import EvaluationRecord
from niwaki.workflow.searching.affording import FRESH
from niwaki.workflow.searching.candidate import Candidate, excess
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.untestable import untestable, untestable_text

__all__ = ["refusal"]

_MOST = 100
"""More times the training than this is no advice."""


def refusal(search: Search, evaluated: EvaluationRecord | None = None) -> dict[str, Any]:
    """`text` in sentences; `inside`: the candidate of the budget that lost least; `nearest`: the lossless one
    that exceeds it least; `steps` of training after which the loss would be within the margin, if it goes on
    to fall as it did; `minutes` of a search that could tell whether it lost anything; `untestable` axes."""
    tried = [c for c in search.candidates.values() if c.losses]
    inside = min((c for c in tried if excess(c, search.limits) <= 0), key=lambda c: c.worst, default=None)
    nearest = min((c for c in tried if c.lossless), key=lambda c: excess(c, search.limits), default=None)
    out: dict[str, Any] = {}
    sentences = [text] if (text := untestable_text(evaluated)) else []
    if axes := untestable(evaluated):
        out["untestable"] = list(axes)
    if inside is None:
        sentences.append(_nothing_inside(search, tried))
    else:
        out["inside"] = inside.name
        sentences.append(_of_inside(inside))
        if minutes := more_time(search, inside):
            out["minutes"] = minutes
            sentences.append(
                f"It seems to be within the margin: --time {minutes}m would let it be judged on enough "
                "samples to tell."
            )
        if steps := more_training(inside):
            out["steps"] = steps
            sentences.append(
                f"If its loss goes on to fall as it did, some {steps:,} steps of training would be enough "
                f"({sum(inside.trained):,} were done); give it more --time."
            )
    if nearest is not None:
        out["nearest"] = nearest.name
        costs = ", ".join(
            f"{key} {cost_text(key, nearest.costs[key])}" for key in search.limits if key in nearest.costs
        )
        sentences.append(f"The nearest plan that lost nothing: {costs} ({nearest.choices.origin}).")
    else:
        sentences.append("No plan that was tried lost nothing on both axes.")
    return {"text": " ".join(sentences), **out}


def _of_inside(inside: Candidate) -> str:
    unsettled = {a: one for a, one in inside.losses.items() if one.outcome != "no loss"} or inside.losses
    axis, loss = max(unsettled.items(), key=lambda item: item[1].interval[1])
    decided = {"loss": "lost", "no loss": "lost no more than"}.get(loss.outcome, "may have lost")
    return (
        f"The best plan within the budget ({inside.choices.origin}) {decided} {loss.value:.2f} margins of "
        f"{axis} [{loss.interval[0]:.2f}, {loss.interval[1]:.2f}]"
        + (f"; about {loss.needed:,} samples would settle it." if loss.needed else ".")
    )


def more_time(search: Search, candidate: Candidate) -> int | None:
    """Minutes of a search that can afford the samples which would show that nothing was lost, if the
    candidate has lost what it seems to: intervals shrink like 1/√n. None where it seems to have lost a
    margin, where samples are cheap, and where this would take far too many."""
    loss = max(candidate.losses.values(), key=lambda one: one.interval[1])
    if loss.outcome != "inconclusive" or loss.value >= 1.0 or not candidate.drawn:
        return None
    times = ((loss.interval[1] - loss.value) / (1.0 - loss.value)) ** 2
    seconds = times * candidate.drawn * search.afforded.judged / FRESH
    worth_it = search.clock.seconds < seconds < _MOST * search.clock.seconds
    return math.ceil(seconds / 60.0) if worth_it else None


def _nothing_inside(search: Search, tried: list[Candidate]) -> str:
    blocking = {}
    for key, limit in search.limits.items():
        known = [c.costs[key] for c in tried if key in c.costs]
        if known and min(known) > limit:
            blocking[key] = min(known)
    if not blocking:
        return "No plan keeps all limits together."
    told = ", ".join(
        f"{key} {cost_text(key, least)} of {cost_text(key, search.limits[key])}"
        for key, least in blocking.items()
    )
    return f"No plan that was found keeps the budget; the least that was reached: {told}."


def more_training(candidate: Candidate) -> int | None:
    """Steps at which the worse loss would be 1 margin, by the power law through its first and last look
    (loss ∝ steps^−a); None where it does not fall, or would take far too many."""
    looks = [(n, loss) for n, loss in candidate.history if n > 0 and loss > 0 and math.isfinite(loss)]
    if len(looks) < 2 or looks[-1][1] <= 1.0 or looks[-1][0] <= looks[0][0]:
        return None
    (n0, a), (n1, b) = looks[0], looks[-1]
    slope = math.log(a / b) / math.log(n1 / n0)
    if slope <= 0.05:
        return None
    steps = n1 * math.exp(math.log(b) / slope)
    return int(steps) if steps < _MOST * n1 else None
