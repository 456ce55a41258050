"""Membership inference: can an attacker tell training samples from others by a score?

The area under the curve is the average case; what matters to a person is whether *some* members are told for
certain: the share of members found at a false-positive rate of 1 % (Carlini et al., "Membership inference
attacks from first principles", S&P 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.core.errors import CallError
from niwaki.evaluation.statistics.auroc import auroc
from niwaki.evaluation.statistics.result import wilson

__all__ = ["FEWEST", "Membership", "membership_test"]

FEWEST = 50
"""Scores of each kind: with fewer, a false-positive rate of a few per cent means nothing."""


@dataclass(frozen=True)
class Membership:
    """auc, interval: of telling members from others; ½ where nothing is told
    found, found_interval: share of members above the score that a share `rate` of the others exceeds
    rate: 1 %, or 1/n where there are fewer than a hundred others
    leaks: whether either interval lies above what chance gives
    """

    auc: float
    interval: tuple[float, float]
    found: float
    found_interval: tuple[float, float]
    rate: float
    members: int
    others: int

    @property
    def leaks(self) -> bool:
        return self.interval[0] > 0.5 or self.found_interval[0] > self.rate

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "leaks": self.leaks}


def membership_test(members: np.ndarray, others: np.ndarray, rate: float = 0.01) -> Membership:
    """members, others: scores `(n,)`, higher for what looks like a member

    The threshold is the smallest of the others' scores that at most `rate` of them exceed; it is chosen and
    judged on the same others, and the interval of the share found is widened by that choice: its lower end is
    taken at the threshold that is exceeded by the fewest the data allow (the upper end of Wilson's interval).
    Raises CallError for fewer than 50 of either, and for scores that are not finite.
    """
    a, b = np.asarray(members, np.float64), np.asarray(others, np.float64)
    if min(len(a), len(b)) < FEWEST:
        raise CallError(
            f"{FEWEST} members and {FEWEST} others are needed to test for membership, not {len(a)} and "
            f"{len(b)}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise CallError("scores of members and others must be finite")
    area, interval = auroc(a, b)
    rate = max(rate, 1.0 / len(b))
    order = np.sort(b)[::-1]
    allowed = int(np.floor(rate * len(b)))
    found = float((a > order[allowed]).mean())
    # The true rate of that threshold may be larger than `rate`: be strict by as much as chance allows.
    strict = next((k for k in range(allowed, -1, -1) if wilson(k, len(b))[1] <= max(rate, 4.0 / len(b))), 0)
    low = wilson(float((a > order[strict]).sum()), len(a))[0]
    high = wilson(found * len(a), len(a))[1]
    return Membership(area, interval, found, (min(low, found), high), rate, len(a), len(b))
