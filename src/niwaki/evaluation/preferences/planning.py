"""How many answers a study of preferences needs."""

from __future__ import annotations

import math

from scipy.special import ndtri

from niwaki.core.errors import CallError

__all__ = ["answers_needed"]


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
