"""The verdict of one axis: a non-inferiority test against a margin that was fixed before.

Its words are those of the test: *no loss beyond M* where the interval of the loss ends below the margin M
(and *a small loss, inside the margin* where it also begins above 0), *loss* where it begins above M, else
*inconclusive*.

Schuirmann, "A comparison of the two one-sided tests procedure and the power approach", 1987.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

from niwaki.evaluation.equivalence.paired import Change
from niwaki.evaluation.statistics.result import Z95

__all__ = ["Axis", "Outcome", "Verdict", "decide"]

Outcome = Literal["no loss", "loss", "inconclusive"]
MOST = 10_000_000
"""More samples than this is no advice."""


@dataclass(frozen=True)
class Axis:
    """What an axis is called in sentences, what its margin means, and why it may have none."""

    name: str
    statistic: str
    better: str
    worse: str
    margin_means: str
    no_margin: str = ""


@dataclass(frozen=True)
class Verdict:
    """Δ = before − after of a statistic of which more is better: positive means that compression made it
    worse.

    outcome:    `no loss` if the whole interval lies below the margin, `loss` if it lies above, else
                `inconclusive`; also where the margin is within 1.96 times its noise, unless nothing changed
    delta:      Δ
    interval:   95 %; at the margin itself each wrong outcome has a chance of at most 5 % (docs/evaluation.md)
    margin:     the largest loss that counts as none, from planted damage
    p_value:    share of random swaps of before and after (within pairs; unpaired: among all samples) that
                give a Δ at least as large
    p_adjusted: the same after Holm's correction over the axes
    n:          pairs; unpaired: samples of the smaller side
    n_needed:   pairs (unpaired: samples on each side) that would settle it; None where it is settled, or
                where more of them alone would not
    before, after: the statistic
    parts:      Δ by extractor
    text:       the outcome in a sentence
    paired:     whether the same seeds made both sides
    margin_noise: standard error of the margin's calibration, 0 where the caller set it
    unfit:      the extractors in whose features it was taken, where all of them are unfit for the data; the
                text then says that it is a hint
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
    paired: bool = True
    margin_noise: float = 0.0
    unfit: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        return f"<b>{escape(self.outcome)}</b> {escape(self.text)}"

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "interval": list(self.interval),
            "parts": dict(self.parts),
            "unfit": list(self.unfit),
        }


def decide(
    axis: Axis,
    change: Change,
    margin: float,
    n: int,
    p_adjusted: float,
    names: Sequence[str],
    signature: str,
    worst: str = "",
    *,
    noise: float = 0.0,
    fewest: int = 0,
    real: int = 0,
    identical: bool = False,
    stored: bool = False,
) -> Verdict:
    """The verdict on a change of n pairs, or of at least n samples on each side.

    names:     of the extractors, for the parts
    worst:     a sentence on where the loss sits, said unless there is none
    noise:     of the margin: one within 1.96 times its noise (also of 0) decides nothing
    fewest:    pairs that a calibration needs, and half as many real samples, where there were too few of
               either; else 0
    real:      real samples that served
    stored:    the margin was measured and kept before the samples after were made
    identical: the samples after are those before, bit by bit: no loss at any margin. A difference of 0
               between other samples is not: both may be ruined beyond what the statistic resolves
    """
    delta = change.delta
    low, high = change.interval()
    outcome: Outcome = "no loss" if high < margin else "loss" if low > margin else "inconclusive"
    calibrated = margin > Z95 * noise
    if not calibrated:
        outcome = "no loss" if identical else "inconclusive"
    if calibrated:
        needed = _needed(change, margin, n)
    else:  # more pairs are of no help where real samples are missing
        needed = fewest if n < fewest else None
    if outcome != "inconclusive":
        needed = None
    if calibrated:
        text = _sentence(axis, outcome, change, (low, high), margin, needed, stored)
    else:
        text = _without_margin(axis, identical, change, (low, high), _missing(fewest, n, real))
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
        paired=change.each is None,
        margin_noise=noise,
    )


def _needed(change: Change, margin: float, n: int) -> int | None:
    """n' with z·√(V₁/n' + V_real) < |margin − Δ|, V₁ the variance of one pair (of one sample on each side);
    None where no number of them would do."""
    room = ((margin - change.delta) / Z95) ** 2 - change.real_variance
    one = n * change.pair_variance if change.each is None else change.each
    if room <= 0 or one <= 0:
        return None
    needed = one / room
    return None if needed > MOST else max(n + 1, _round_up(needed))


def _sentence(
    axis: Axis,
    outcome: Outcome,
    change: Change,
    interval: tuple[float, float],
    margin: float,
    needed: int | None,
    stored: bool,
) -> str:
    what = _what(axis, change, interval)
    kept = " that was stored beforehand" if stored else ""
    limit = f"the margin of {margin:.3g}{kept}, which is what {axis.margin_means}"
    if outcome == "no loss":
        # An interval above 0 and below the margin is a loss that was agreed to be tolerable, and is said.
        small = "; a small loss, inside the margin" if interval[0] > 0 else ""
        return f"No loss of {axis.name} beyond {margin:.3g}{small}: {what}, certainly less than {limit}."
    if outcome == "loss":
        return f"Loss of {axis.name}: {what}, certainly more than {limit}."
    things = "pairs" if change.each is None else "samples"
    if needed is None:
        settle = (
            f"More {things} alone would not settle it: the loss is near the margin, or the test split small."
        )
    else:
        side = "" if change.each is None else " on each side"
        settle = f"About {needed:,} samples{side} are needed to settle it.".replace(",", " ")
    return f"Inconclusive on {axis.name}: {what}, which does not decide against {limit}. {settle}"


def _without_margin(
    axis: Axis, identical: bool, change: Change, interval: tuple[float, float], missing: str
) -> str:
    if identical:
        return f"No loss of {axis.name}: every sample is the same after as before."
    if missing:
        why = f"no margin can be calibrated: {missing}"
    else:
        why = f"{axis.no_margin}, so no margin can be calibrated: train the model longer (more train.steps)"
    return f"Inconclusive on {axis.name}: {why}. As far as it goes, {_what(axis, change, interval)}."


def _missing(fewest: int, n: int, real: int) -> str:
    """Which of the numbers that a calibration needs is too small; empty where none is."""
    short = []
    if n < fewest:
        short.append(f"{fewest} samples are needed, and there are {n}")
    if 0 < real < min(fewest, n) // 2:  # of the test samples, half as many as of pairs serve
        short.append(f"{fewest // 2} real samples are needed, and the test split has {real}")
    return "; ".join(short)


def _what(axis: Axis, change: Change, interval: tuple[float, float]) -> str:
    moved = axis.worse if change.delta >= 0 else axis.better
    return (
        f"{moved} by {abs(change.delta):.3g} "
        f"(95 % interval of the loss {_signed(interval[0])} … {_signed(interval[1])})"
    )


def _round_up(n: float) -> int:
    """To two figures: `about 3 400`."""
    step = 10 ** max(0, math.floor(math.log10(max(n, 1.0))) - 1)
    return math.ceil(n / step) * step


def _signed(value: float) -> str:
    """Three figures, with the sign that figures have on the page."""
    return f"{value:.3g}".replace("-", "−")
