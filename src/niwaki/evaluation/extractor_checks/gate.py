"""A gate for release: a model that gives out its training samples does not leave the house.

The share of close copies is compared with what it may be by chance. Its limit is the 1 % quantile of T test
samples, a random number itself; if generated samples are no nearer to the training split than test samples
are, the number of n that fall below the r-th nearest of T is beta-binomial with parameters r and T − r + 1,
whatever the distribution of the distances (Wilks, "Determination of sample sizes for setting tolerance
limits", 1941).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import betabinom

from niwaki.core.contract import CallError
from niwaki.evaluation.memorization.copies import CLOSE, Copies

__all__ = ["Gate", "memorisation_gate"]


@dataclass(frozen=True)
class Gate:
    """Whether a model may be released.

    passed:    no identical copies, and no more close ones than test samples would show by chance
    reasons:   why not; empty where it passed
    close:     share of close copies, with its 95 % interval
    expected:  the share of test samples that are as close
    allowed:   the largest share that chance explains at `level`
    p_value:   chance of as many close copies, if none is memorised
    identical: number of samples equal to a training sample
    samples:   the copies: position, training sample, distance, whether identical; the worst first
    """

    passed: bool
    reasons: tuple[str, ...]
    close: float
    interval: tuple[float, float]
    expected: float
    allowed: float
    p_value: float
    identical: int
    samples: tuple[dict[str, Any], ...]
    n: tuple[int, int]
    level: float
    text: str

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "reasons": list(self.reasons),
            "interval": list(self.interval),
            "samples": [dict(s) for s in self.samples],
            "n": list(self.n),
        }


def memorisation_gate(copies: Copies, *, level: float = 0.05, most: int = 16) -> Gate:
    """Judge what `find_copies` found.

    level: chance that a model which copies nothing is held back for its close copies
    most:  samples that are named
    Identical samples always fail. Data in which different samples are often equal (empty pictures) cannot
    pass.
    Raises CallError for a level outside 0 … 1.
    """
    if not 0 < level < 1:
        raise CallError(f"the level of the gate must lie between 0 and 1, not {level}")
    test, n = copies.close.n
    hits = round(copies.close.value * n)
    # numpy's quantile lies between two order statistics: the upper one holds at least as many
    rank = min(test, math.ceil(CLOSE * (test - 1)) + 1)
    chance = betabinom(n, rank, test - rank + 1)
    p_value = float(chance.sf(hits - 1))
    allowed = float(chance.ppf(1.0 - level)) / n
    close = copies.close.per_sample
    assert close is not None
    reasons = []
    order = np.lexsort((copies.distance, ~copies.equal))
    if copies.identical:
        reasons.append(
            f"{_samples(copies.identical)} equal to a training sample: {_named(order[: copies.identical])}"
        )
    too_many = p_value < level
    if too_many:
        found = order[(close[order] > 0) & ~copies.equal[order]]
        named = f": {_named(found)}" if len(found) else ""
        reasons.append(
            f"{hits} of {n} samples ({hits / n:.1%}) are nearer to a training sample than {1 - CLOSE:.0%} of "
            f"the test samples are, where chance allows {allowed:.1%}{named}"
        )
    listed = order[copies.equal[order] | ((close[order] > 0) & too_many)][:most]
    passed = not reasons
    if passed:
        text = (
            f"Passed: no sample equals a training sample, and {hits / n:.1%} are close to one, "
            f"where chance allows {allowed:.1%}."
        )
    else:
        text = f"Held back: {'; '.join(reasons)}."
    low, high = copies.close.interval or (0.0, 1.0)
    return Gate(
        passed=passed,
        reasons=tuple(reasons),
        close=copies.close.value,
        interval=(float(low), float(high)),
        expected=CLOSE,
        allowed=allowed,
        p_value=p_value,
        identical=copies.identical,
        samples=tuple(
            {
                "sample": int(i),
                "train_index": int(copies.index[i]),
                "distance": float(copies.distance[i]),
                "identical": bool(copies.equal[i]),
            }
            for i in listed
        ),
        n=(test, n),
        level=level,
        text=text,
    )


def _samples(count: int) -> str:
    return "1 sample is" if count == 1 else f"{count} samples are"


def _named(which: np.ndarray) -> str:
    shown = ", ".join(str(int(i)) for i in which[:5])
    return f"number {shown}" + (" …" if len(which) > 5 else "")
