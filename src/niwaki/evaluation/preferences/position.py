"""Whether raters prefer a side: sides are drawn at random, so each should win half of what is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from niwaki.evaluation.preferences.ratings import Rating
from niwaki.evaluation.statistics.result import wilson

__all__ = ["PositionBias", "position_bias"]


@dataclass(frozen=True)
class PositionBias:
    """
    left:    share of decided answers that prefer the left one, with its 95 % interval
    p_value: of the exact two-sided binomial test against ½. Exact also where a rater's answers belong
             together: where no side is preferred, the drawn sides make each answer fall left with ½
    """

    n: int
    left: float
    interval: tuple[float, float]
    p_value: float


def position_bias(answers: Sequence[Rating]) -> PositionBias | None:
    """None where no answer is decided."""
    decided = [one.winner for one in answers if one.winner != "tie" and not one.check]
    if not decided:
        return None
    left = decided.count("left")
    test = binomtest(left, len(decided), 0.5)
    return PositionBias(len(decided), left / len(decided), wilson(left, len(decided)), float(test.pvalue))
