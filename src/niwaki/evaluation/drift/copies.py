"""Memorisation: what a model makes lies nearer to its training samples than held-out real ones do."""

from __future__ import annotations

import numpy as np

from niwaki.evaluation.drift.channel import register_channel
from niwaki.evaluation.drift.farther import Farther

__all__ = ["Copies"]


@register_channel("copies")
class Copies(Farther):
    """The same ranks from the other end: Meehan et al., AISTATS 2020, one sample at a time."""

    title = "lie nearer to the training samples than held-out ones, as copies do"
    streams = ("outputs",)

    def scores(self, block: np.ndarray) -> np.ndarray:
        return 1.0 - super().scores(block)
