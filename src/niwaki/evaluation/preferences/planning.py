"""How many answers a study of preferences needs."""

from __future__ import annotations

import math

from scipy.special import ndtri

from niwaki.core.errors import CallError
from niwaki.evaluation.preferences.bradley_terry import Strengths

__all__ = ["answers_left", "answers_needed"]

_MOST = 1e6
"""Answers beyond which none are named."""


def answers_needed(
    chance: float,
    *,
    level: float = 0.05,
    power: float = 0.8,
    ties: float = 0.0,
    per_rater: int = 1,
    within_rater: float = 0.0,
) -> int:
    """Answers of a comparison of two until a preference is seen that is there: the two-sided test of a share
    against ½.

    n = ((z_{1−level/2}/2 + z_power √(p(1 − p)))/(p − ½))², ties left out, times 1 + (m − 1)ρ for m answers of
    one rater that are correlated by ρ (Kish 1965).
    chance:       p, of the better one to be preferred where one is, above ½
    ties:         share of answers that prefer neither
    Raises CallError for a chance that is not in ½ … 1.
    """
    if not 0.5 < chance < 1.0:
        raise CallError("the chance of the better one to be preferred must lie between 0.5 and 1")
    if not (0.0 <= ties < 1.0 and 0.0 <= within_rater <= 1.0 and per_rater >= 1):
        raise CallError("ties and the correlation within raters are shares in 0 … 1")
    spread = ndtri(1 - level / 2) / 2 + ndtri(power) * math.sqrt(chance * (1 - chance))
    n = (spread / (chance - 0.5)) ** 2 / (1.0 - ties)
    return math.ceil(n * (1.0 + (per_rater - 1) * within_rater))


def answers_left(strengths: Strengths, *, level: float = 0.05, power: float = 0.8) -> int | None:
    """Further answers until the strongest and the second are told apart, where their gap is as it is
    estimated now; 0 where they are. None where both are as good as equally strong (above a million).

    The error of the gap falls like 1/√n: n·((z_{1−level/2} + z_power)·error/gap)² − n.
    """
    order = sorted(range(len(strengths.items)), key=lambda k: -float(strengths.strength[k]))
    if len(order) < 2:
        return 0
    i, j = order[:2]
    gap = float(strengths.strength[i] - strengths.strength[j])
    covariance = strengths.covariance
    error = math.sqrt(max(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j], 0.0))
    if gap > ndtri(1 - level / 2) * error:
        return 0
    if gap <= 0.0:
        return None
    needed = strengths.n * ((ndtri(1 - level / 2) + ndtri(power)) * error / gap) ** 2
    return max(1, math.ceil(needed - strengths.n)) if needed < _MOST else None
