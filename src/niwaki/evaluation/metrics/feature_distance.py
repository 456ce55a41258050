"""How far made samples lie from the truth in features, in units of how far real ones lie apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.statistics.arrays import features

__all__ = ["feature_distances"]


def feature_distances(
    extract: Callable[[np.ndarray], np.ndarray],
    made: Mapping[str, np.ndarray],
    truth: np.ndarray,
    among: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Distance to the truth in features of each sample, `(n,)` for each of `made`; 1 is the median distance
    from a real sample to its nearest neighbour.

    among:   the real samples that this distance is taken from, no two alike; default: the truth
    extract: samples `(n, *shape)` → features `(n, d)`
    """
    real = extract(truth)
    others = real if among is None else extract(among)
    near = Pairs(features(others, "real")).nearest(1).d2[:, 0].sqrt()
    unit = max(float(near.median()), 1e-12)
    return {name: np.linalg.norm(extract(x) - real, axis=1) / unit for name, x in made.items()}
