"""Damage of known size, planted into good samples: what a margin is measured on.

A margin of 5 % means: as bad as if 5 % of the samples were blurred beyond recognition (fidelity), as if modes
that hold 5 % of the samples were never made (diversity). Both are the same at any number of samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans

from niwaki.contract import SampleSpec
from niwaki.evaluation.neighbourhood import Neighbourhood, reach

__all__ = ["blur", "drop_costs", "find_modes", "ruin"]


def blur(x: np.ndarray, sigma: float, axes: Sequence[int]) -> np.ndarray:
    """Gaussian blur along `axes`, sigma in steps of the grid, edges repeated."""
    radius = max(1, math.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in axes:
        padded = np.pad(x, [(radius, radius) if a == axis else (0, 0) for a in range(x.ndim)], mode="edge")
        length = x.shape[axis]
        shifted = (np.take(padded, range(i, i + length), axis) * w for i, w in enumerate(kernel))
        x = np.sum(list(shifted), axis=0).astype(np.float32)
    return x


def ruin(x: np.ndarray, spec: SampleSpec, rng: np.random.Generator) -> np.ndarray:
    """Samples beyond recognition: images and series blurred by a quarter of their length, vectors replaced by
    normal noise of the samples' own mean and deviation in each coordinate."""
    if len(spec.shape) == 1:
        return rng.normal(x.mean(0), x.std(0) + 1e-12, x.shape).astype(np.float32)
    return blur(x, max(spec.shape[1:]) / 4, range(2, x.ndim))


def find_modes(real: np.ndarray, generated: np.ndarray, modes: int, seed: int) -> np.ndarray:
    """The mode of each generated sample: k-means on real features, nearest centre `(n,)`."""
    k = max(2, min(modes, len(real) // 10))
    centres = KMeans(k, n_init=1, random_state=seed % 2**31).fit(real.astype(np.float32))
    return centres.predict(generated.astype(np.float32))


def drop_costs(place: Neighbourhood, mode: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Reach lost without each mode, and the share of the samples it holds, both `(modes,)`: over the modes
    that hold at least 1 % and leave m samples."""
    n = len(mode)
    whole = float(reach(place.counts(), n, m).mean())
    lost, share = [], []
    for one in np.unique(mode):
        keep = mode != one
        left = int(keep.sum())
        if n - left < 0.01 * n or left < m:
            continue
        lost.append(whole - float(reach(place.counts(keep), left, m).mean()))
        share.append(1.0 - left / n)
    return np.array(lost), np.array(share)
