"""Distances to the nearest of a set."""

from __future__ import annotations

import numpy as np

from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.statistics.arrays import features

__all__ = ["distances"]


def distances(x: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Of each row `(n, d)` to the nearest row of `to` `(m, d)`; `(n,)`."""
    near = Pairs(features(x, "x"), features(to, "to")).nearest(1)
    return np.sqrt(near.d2[:, 0].cpu().numpy())
