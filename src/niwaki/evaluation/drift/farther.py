"""Novelty: new samples lie farther from what the model has learned than held-out ones do."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from niwaki.evaluation.drift.channel import (
    Channel,
    Reference,
    Stream,
    rank_allowance,
    register_channel,
)
from niwaki.evaluation.pairwise.nearest import distances
from niwaki.evaluation.statistics.ranks import mid_ranks

__all__ = ["Farther"]


@register_channel("farther")
class Farther(Channel):
    """Rank of the distance to the nearest training sample among those of held samples."""

    title = "lie farther from the training samples than held-out ones"
    streams: ClassVar[tuple[Stream, ...]] = ("inputs", "outputs")

    def __init__(self, reference: Reference, seed: int = 0) -> None:
        super().__init__(reference, seed)
        self.held = distances(reference.held, reference.train)

    def scores(self, block: np.ndarray) -> np.ndarray:
        return mid_ranks(distances(block, self.reference.train), self.held)

    def allowance(self, level: float) -> float:
        return rank_allowance(len(self.held), level)
