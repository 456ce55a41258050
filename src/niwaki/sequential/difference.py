"""A/B: by how much B's outcomes are better than A's, bounded at all times at once.

Each user is given B with a known probability p by a draw of their own. With μ̂ the means before a user came,

    x = μ̂_B − μ̂_A + Z(y − μ̂_B)/p − (1 − Z)(y − μ̂_A)/(1 − p)

has the expectation μ_B − μ_A whatever the guesses are, and a small spread where they are good (Howard,
Ramdas, McAuliffe & Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Ann. Stat.
2021, Section 4.2). Looking often is part of the promise: a t test that is looked at daily is wrong in a
quarter of all trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from niwaki.core.errors import CallError
from niwaki.sequential.bounded_mean import bounds_of_mean

__all__ = ["Comparison", "Decision", "compare_arms"]

Decision = Literal["better", "worse", "alike", "go on"]


@dataclass(frozen=True)
class Comparison:
    """B beside A.

    difference: mean of B − mean of A; low, high: at all times at once
    a, b:       means; n_a, n_b: users
    decision:   `better` where low > 0, `worse` where high < 0, `alike` where both lie within the margin
    """

    difference: float
    low: float
    high: float
    a: float
    b: float
    n_a: int
    n_b: int
    decision: Decision


def compare_arms(
    outcomes: np.ndarray, given_b: np.ndarray, *, share: float = 0.5, level: float = 0.05, margin: float = 0.0
) -> Comparison:
    """outcomes: of users in the order of their coming `(n,)`, in 0 … 1, more is better
    given_b:  whether each was given B `(n,)` bool
    share:    of the users that are given B, decided by a draw for each
    level:    chance that the bounds ever miss the difference
    margin:   difference that counts as none; 0 decides nothing to be alike
    Raises CallError for outcomes outside 0 … 1 and for a share outside them.
    """
    y, z = np.asarray(outcomes, np.float64), np.asarray(given_b, bool)
    if not 0.0 < share < 1.0:
        raise CallError(f"the share of users that are given B must lie between 0 and 1, not {share}")
    if y.shape != z.shape or (y.size and not (y.min() >= 0.0 and y.max() <= 1.0)):
        raise CallError("outcomes must lie in 0 … 1, one for each user")
    guess_a, guess_b = _means_before(y, ~z), _means_before(y, z)
    x = guess_b - guess_a + np.where(z, (y - guess_b) / share, -(y - guess_a) / (1.0 - share))
    # Both guesses and y lie in 0 … 1, so that |x| ≤ 1 + 1/min(p, 1 − p).
    span = 1.0 + 1.0 / min(share, 1.0 - share)
    low, high = bounds_of_mean((x + span) / (2.0 * span), level / 2.0, level / 2.0)
    low, high = max(-1.0, 2.0 * span * low - span), min(1.0, 2.0 * span * high - span)
    a, b = (float(y[part].mean()) if part.any() else 0.5 for part in (~z, z))
    decision: Decision = "go on"
    if low > 0.0:
        decision = "better"
    elif high < 0.0:
        decision = "worse"
    elif -margin < low and high < margin:
        decision = "alike"
    return Comparison(b - a, low, high, a, b, int((~z).sum()), int(z.sum()), decision)


def _means_before(y: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Of those in `part` before each, ½ counted once."""
    sums, counts = np.cumsum(np.where(part, y, 0.0)), np.cumsum(part)
    before_sum, before_count = np.r_[0.0, sums[:-1]], np.r_[0, counts[:-1]]
    if not len(y):
        return np.zeros(0)
    return (0.5 + before_sum) / (1.0 + before_count)
