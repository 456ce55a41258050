"""Collapse: samples lie closer to each other than they used to."""

from __future__ import annotations

import math

import numpy as np

from niwaki.evaluation.drift.channel import Channel, Reference, register_channel
from niwaki.evaluation.statistics.ranks import mid_ranks

__all__ = ["Collapse"]

_GROUP = 5
_DRAWN = 2000
"""Groups of held samples, whose closest pairs the others' are ranked among."""


@register_channel("collapse")
class Collapse(Channel):
    """Of every five samples in the order of their coming, the distance of the two that lie closest: its rank
    among those of five held ones. Where a share s of all samples is one and the same, a group holds two of
    them with a probability of 1 − (1 − s)⁵ − 5s(1 − s)⁴, of 47 % at s = 0.3: a mean over all pairs would show
    their s², of 9 %.
    """

    title = "lie closer to each other than they used to"
    streams = ("inputs", "outputs")

    def __init__(self, reference: Reference, seed: int = 0) -> None:
        super().__init__(reference, seed)
        rng = np.random.default_rng([seed, 0x636F])
        held = reference.held
        index = np.array([rng.choice(len(held), _GROUP, replace=False) for _ in range(_DRAWN)])
        self.closest = _closest(held[index])

    def scores(self, block: np.ndarray) -> np.ndarray:
        groups = len(block) // _GROUP
        shape = (groups, _GROUP, block.shape[1])
        return 1.0 - mid_ranks(_closest(block[: groups * _GROUP].reshape(shape)), self.closest)

    def allowance(self, level: float) -> float:
        """By the held samples: ⌊m/5⌋ groups of them that share none are ranks in a draw of their own, and a
        mean over all groups is at least as near its expectation (Hoeffding 1963, Section 5a); and by which
        of all groups are drawn."""
        log, apart = math.log(2.0 / level), len(self.reference.held) // _GROUP
        return math.sqrt(log / (6.0 * max(apart, 1))) + math.sqrt(log / (6.0 * _DRAWN))


def _closest(groups: np.ndarray) -> np.ndarray:
    """Of groups `(n, k, d)` the squared distance of the closest two `(n,)`."""
    squares = (groups**2).sum(-1)
    apart = squares[:, :, None] + squares[:, None, :] - 2.0 * groups @ groups.transpose(0, 2, 1)
    rows, columns = np.triu_indices(groups.shape[1], 1)
    return np.maximum(apart[:, rows, columns], 0.0).min(1)
