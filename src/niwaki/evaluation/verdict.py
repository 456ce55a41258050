"""The verdict of one axis: an equivalence test against a margin that was fixed before.

Schuirmann, "A comparison of the two one-sided tests procedure and the power approach", 1987; Holm, "A simple
sequentially rejective multiple test procedure", 1979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from niwaki.evaluation.paired import Change
from niwaki.evaluation.result import Z95

__all__ = ["Axis", "Outcome", "Verdict", "decide", "holm"]

Outcome = Literal["no loss", "loss", "inconclusive"]
MOST = 10_000_000
"""More samples than this is no advice."""


@dataclass(frozen=True)
class Axis:
    """What an axis is called in sentences, and what its margin means."""

    name: str
    statistic: str
    better: str
    worse: str
    margin_means: str


@dataclass(frozen=True)
class Verdict:
    """Δ = before − after of a statistic of which more is better: positive means that compression made it
    worse.

    outcome:    `no loss` if the whole interval lies below the margin, `loss` if it lies above, else
                `inconclusive`
    delta:      Δ
    interval:   95 %; at the margin itself each wrong outcome has a chance of at most 5 % (docs/evaluation.md)
    margin:     the largest loss that counts as none; from planted damage, the same for any n
    p_value:    share of random swaps of before and after within pairs that give a Δ at least as large
    p_adjusted: the same after Holm's correction over the axes
    n:          pairs
    n_needed:   pairs that would settle it; None where it is settled, or where more pairs alone would not
    before, after: the statistic
    parts:      Δ by extractor
    text:       the outcome in a sentence
    """

    outcome: Outcome
    delta: float
    interval: tuple[float, float]
    margin: float
    p_value: float
    p_adjusted: float
    n: int
    n_needed: int | None
    before: float
    after: float
    text: str
    statistic: str
    signature: str
    parts: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "interval": list(self.interval), "parts": dict(self.parts)}


def decide(
    axis: Axis,
    change: Change,
    margin: float,
    n: int,
    p_adjusted: float,
    names: Sequence[str],
    signature: str,
    worst: str = "",
) -> Verdict:
    """The verdict on a change of n pairs.

    names: of the extractors, for the parts
    worst: a sentence on where the loss sits, said unless there is none
    """
    delta = change.delta
    low, high = change.interval()
    outcome: Outcome = "no loss" if high < margin else "loss" if low > margin else "inconclusive"
    needed = _needed(change, margin, n) if outcome == "inconclusive" else None
    text = _sentence(axis, outcome, delta, (low, high), margin, needed)
    if worst and outcome != "no loss":
        text += f" {worst}"
    return Verdict(
        outcome=outcome,
        delta=delta,
        interval=(low, high),
        margin=margin,
        p_value=change.p_value,
        p_adjusted=p_adjusted,
        n=n,
        n_needed=needed,
        before=change.before,
        after=change.after,
        text=text,
        statistic=axis.statistic,
        signature=signature,
        parts=dict(zip(names, change.parts, strict=True)),
    )


def _needed(change: Change, margin: float, n: int) -> int | None:
    """Pairs n' with z·√(V_pair·n/n' + V_real) < |margin − Δ|; None where no number of them would do."""
    room = ((margin - change.delta) / Z95) ** 2 - change.real_variance
    if room <= 0 or change.pair_variance <= 0:
        return None
    needed = n * change.pair_variance / room
    return None if needed > MOST else max(n + 1, _round_up(needed))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: the k-th smallest of m times (m−k+1), never falling, at most 1."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted.tolist()


def _sentence(
    axis: Axis,
    outcome: Outcome,
    delta: float,
    interval: tuple[float, float],
    margin: float,
    needed: int | None,
) -> str:
    change = axis.worse if delta >= 0 else axis.better
    what = f"{change} by {abs(delta):.3g} (95 % interval of the loss {interval[0]:.3g} … {interval[1]:.3g})"
    limit = f"the margin of {margin:.3g}, which is what {axis.margin_means}"
    if outcome == "no loss":
        return f"No loss of {axis.name}: {what}, certainly less than {limit}."
    if outcome == "loss":
        return f"Loss of {axis.name}: {what}, certainly more than {limit}."
    if needed is None:
        settle = "More pairs alone would not settle it: the loss is near the margin, or the test split small."
    else:
        settle = f"About {needed:,} samples are needed to settle it.".replace(",", " ")
    return f"Inconclusive on {axis.name}: {what}, which does not decide against {limit}. {settle}"


def _round_up(n: float) -> int:
    """To two figures: `about 3 400`."""
    step = 10 ** max(0, math.floor(math.log10(max(n, 1.0))) - 1)
    return math.ceil(n / step) * step
