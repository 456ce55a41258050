"""Damage of known size, planted into good samples: what a margin is measured on.

A margin of 5 % means: as bad as if 5 % of the samples were blurred beyond recognition (fidelity), as if whole
modes that hold 5 % of the samples were never made (diversity).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from sklearn.cluster import KMeans

from niwaki.core.contract import DataSpec
from niwaki.modalities import modality_of

__all__ = ["drop_sets", "dropped", "find_modes", "ruin"]

_TOGETHER = 2
"""Modes in one planted loss."""
_MOST = 100
_FEW = 10
"""Planted losses that are measured at most, and where none is of the right size."""


def ruin(x: np.ndarray, spec: DataSpec, rng: np.random.Generator) -> np.ndarray:
    """Samples beyond recognition, as their modality does it."""
    return modality_of(spec.x).ruin(x, spec.x, rng)


def find_modes(real: np.ndarray, generated: np.ndarray, modes: int, seed: int) -> np.ndarray:
    """The mode of each generated sample: k-means on real features, nearest centre `(n,)`."""
    k = max(2, min(modes, len(real) // 10))
    centres = KMeans(k, n_init=1, random_state=seed % 2**31).fit(real.astype(np.float32))
    return centres.predict(generated.astype(np.float32))


def drop_sets(mode: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Sets of whole modes that together hold about `share` of the samples: bool (sets, modes).

    Every mode and every two of them within a fifth of the share, at most 100 of them, drawn; where there
    are none, the few nearest to it that hold at most twice as much.
    """
    names, counts = np.unique(mode, return_counts=True)
    held = counts / len(mode)
    found = []
    for size in range(1, min(_TOGETHER, len(names) - 1) + 1):
        found += [
            (abs(held[list(some)].sum() / share - 1), some) for some in combinations(range(len(names)), size)
        ]
    near = [some for off, some in found if off <= 0.2]
    if not near:
        near = [some for off, some in sorted(found)[:_FEW] if off <= 1.0]
    if len(near) > _MOST:
        chosen = np.random.default_rng([seed, 0x6472]).permutation(len(near))[:_MOST]
        near = [near[i] for i in np.sort(chosen)]
    sets = np.zeros((len(near), len(names)), bool)
    for row, some in zip(sets, near, strict=True):
        row[list(some)] = True
    return sets


def dropped(mode: np.ndarray, gone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sample that is made in the place of each `(n,)` where modes, bool (modes,), are never made: itself,
    or one of those that are left."""
    lost = gone[np.unique(mode, return_inverse=True)[1]]
    out = np.arange(len(mode))
    out[lost] = rng.choice(np.flatnonzero(~lost), int(lost.sum()))
    return out
