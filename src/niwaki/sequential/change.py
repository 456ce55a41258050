"""Whether a mean has risen since some time that is not known: a bound from each of many beginnings.

A change that comes late would drown in what was before it. So the mean is bounded from many beginnings, whose
levels add up to that of all: the chance of ever raising a false alarm stays below it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from niwaki.sequential.bounded_mean import bounds_of_mean

__all__ = ["Rise", "beginnings", "find_rise"]

_RATIO = 1.15
"""Between one beginning and the next: a change between two of them is thinned by at most 13 % of what was
before it."""


@dataclass(frozen=True)
class Rise:
    """low:   the highest of the lower bounds, and `since` the block that its beginning stands at
    mean:  since then
    whole_high: the upper bound of the mean since the first block
    """

    low: float
    since: int
    mean: float
    whole_high: float


def beginnings(blocks: int) -> list[int]:
    """Blocks that bounds begin at: 0, 1, 2, …, ever farther apart; the same whatever comes after them."""
    found: list[int] = []
    at = 0.0
    while int(at) < blocks:
        if not found or int(at) > found[-1]:
            found.append(int(at))
        at = at * _RATIO if at * (_RATIO - 1.0) >= 1.0 else at + 1.0
    return found


def find_rise(blocks: list[np.ndarray], level: float) -> Rise:
    """blocks: values in [0, 1], each `(n,)`, in the order of their coming
    level: chance of ever calling a mean higher than it is; the k-th beginning has level/(k(k + 1)) of it
    """
    sizes = np.cumsum([0, *map(len, blocks)])
    x = np.concatenate(blocks) if blocks else np.zeros(0)
    best = Rise(0.0, 0, float(x.mean()) if len(x) else 0.5, bounds_of_mean(x, level, level)[1])
    for k, block in enumerate(beginnings(len(blocks)), 1):
        part = x[sizes[block] :]
        low, _ = bounds_of_mean(part, level / (k * (k + 1)), level)
        if low > best.low:
            best = Rise(low, block, float(part.mean()), best.whole_high)
    return best
