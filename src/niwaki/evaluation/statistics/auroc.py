"""Area under the receiver operating characteristic: how well a score tells two sets apart."""

from __future__ import annotations

import numpy as np

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.ranks import mid_ranks
from niwaki.evaluation.statistics.result import Z95

__all__ = ["auroc"]


def auroc(high: np.ndarray, low: np.ndarray) -> tuple[float, tuple[float, float]]:
    """P(a score of `high` is above one of `low`) + ½ P(both are equal), and its 95 % interval: 1 where every
    one of `high` is above every one of `low`, ½ where nothing is told apart.

    Mann & Whitney 1947; interval: DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two or more
    correlated receiver operating characteristic curves", 1988: the variances of the placements.
    Raises CallError for fewer than two of either.
    """
    a, b = np.asarray(high, np.float64), np.asarray(low, np.float64)
    if min(len(a), len(b)) < 2:
        raise CallError(f"two scores of each kind are needed to tell them apart, not {len(a)} and {len(b)}")
    of_high, of_low = mid_ranks(a, b), 1.0 - mid_ranks(b, a)
    value = float(of_high.mean())
    error = float(np.sqrt(of_high.var(ddof=1) / len(a) + of_low.var(ddof=1) / len(b)))
    return value, (max(0.0, value - Z95 * error), min(1.0, value + Z95 * error))
