"""Verdicts on means over items that both models were asked about, and margins from damage of known size.

An item is a test sample, a window, a translation: each has a score before and one after, more being better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from niwaki.core.contract import CallError
from niwaki.evaluation.equivalence.margins import LEAST, SHARE, Margin
from niwaki.evaluation.equivalence.text import FEWEST, SWAPS, mean_change
from niwaki.evaluation.equivalence.verdict import Axis, Verdict, decide
from niwaki.evaluation.statistics.shares import holm

__all__ = ["Scores", "item_verdicts", "other_items", "planted_margin"]


@dataclass(frozen=True)
class Scores:
    """One axis of a comparison: what it is called, and the score of each item before and after `(n,)`."""

    axis: Axis
    before: np.ndarray
    after: np.ndarray


def planted_margin(cost: np.ndarray, share: float = SHARE) -> Margin:
    """The margin that lets pass as much as damaging `share` of the items would cost.

    cost: what the damage costs each item `(n,)`, where all of them are damaged; more is worse
    Noise: the standard error of the mean. 0 where the damage costs nothing. Raises CallError for fewer than
    20 items.
    """
    cost = np.asarray(cost, dtype=np.float64)
    if len(cost) < FEWEST:
        raise CallError(f"margins are measured on at least {FEWEST} items, not {len(cost)}")
    value = share * float(cost.mean())
    return Margin(value if value > LEAST else 0.0, share * float(cost.std(ddof=1)) / len(cost) ** 0.5)


def other_items(n: int, seed: int) -> np.ndarray:
    """For each of n ≥ 2 items another one, drawn: a permutation without fixed points `(n,)`."""
    order = np.random.default_rng([seed, 0x6F74]).permutation(n)
    out = np.empty(n, np.int64)
    out[order] = np.roll(order, 1)
    return out


def item_verdicts(
    scores: Mapping[str, Scores],
    margins: Mapping[str, Margin],
    *,
    name: str,
    signature: str,
    seed: int = 0,
    identical: bool = False,
) -> dict[str, Verdict]:
    """By axis a verdict, from a mean over pairs; p-values corrected over the axes (Holm).

    name:      of what scores the items: the verdict's only part
    identical: what was made after is what was made before, bit by bit
    Raises CallError for fewer than 20 items, other numbers before than after, scores that are not finite.
    """
    changes = {}
    for key, row in scores.items():
        before, after = (np.asarray(side, dtype=np.float64) for side in (row.before, row.after))
        if before.shape != after.shape or before.ndim != 1:
            raise CallError(f"both models must be asked the same, not {before.shape} and {after.shape} items")
        if len(before) < FEWEST:
            raise CallError(f"a verdict needs at least {FEWEST} items, not {len(before)}")
        if not (np.isfinite(before).all() and np.isfinite(after).all()):
            raise CallError(f"the scores of {row.axis.name} are not all finite numbers")
        rng = np.random.default_rng([seed, 0x6974])
        swaps = rng.integers(0, 2, (SWAPS, len(before)), dtype=np.int8).astype(bool)
        changes[key] = mean_change(before, after, swaps, margins[key].noise)
    adjusted = dict(zip(changes, holm([c.p_value for c in changes.values()]), strict=True))
    return {
        key: decide(
            scores[key].axis, change, margins[key].value, len(scores[key].before), adjusted[key], [name],
            f"{signature}|axis:{key}", noise=margins[key].noise, fewest=margins[key].fewest,
            identical=identical,
        )
        for key, change in changes.items()
    }  # fmt: skip
