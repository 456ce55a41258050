"""What data take to store when only each dimension's own distribution is known: a code without a model.

Of levels and tokens the order-0 histogram of each dimension over the training split, one added to every count
(Laplace's rule of succession), so that no value is impossible. Of amounts the normal distribution with the
dimension's mean and deviation: log₂(σ√(2πe)) bits on average where they are normal (Shannon 1948).
"""

from __future__ import annotations

import numpy as np
import torch

from niwaki.core.contract import ValueSpec
from niwaki.data.columns import Column

__all__ = ["independent_bits", "levels_of"]

_CELLS = 1 << 24
"""Counts held at a time."""


def independent_bits(train: Column, items: Column, n: int) -> np.ndarray:
    """Bits per dimension of the first n of `items`, each dimension coded by its own distribution over
    `train`: `(n,)` float64. For amounts these are differential: bits of a density, which may be negative."""
    spec = items.spec
    if spec.levels:
        return _counted(levels_of(train), levels_of(items, n), spec.levels)
    real = train.values().double().flatten(1).cpu().numpy()
    own = items.values(torch.arange(min(n, len(items)))).double().flatten(1).cpu().numpy()
    mean, deviation = real.mean(0), np.maximum(real.std(0), 1e-6)
    bits = np.log2(deviation * np.sqrt(2 * np.pi)) + ((own - mean) / deviation) ** 2 / (2 * np.log(2.0))
    return bits.mean(1)


def levels_of(column: Column, n: int | None = None) -> np.ndarray:
    """Stored levels (or tokens) 0 … n−1 of the first n rows, flattened: `(n, d)` int64."""
    data = column.data[:n].flatten(1) if column.data.ndim > 1 else column.data[:n, None]
    if not data.is_floating_point():
        return data.long().cpu().numpy()
    spec: ValueSpec = column.spec  # levels that were never rounded
    unit = (data.double() - spec.low) / (spec.high - spec.low)
    return (unit * (spec.levels - 1)).round().clamp(0, spec.levels - 1).long().cpu().numpy()


def _counted(train: np.ndarray, items: np.ndarray, levels: int) -> np.ndarray:
    """Mean over dimensions of −log₂ (count + 1)/(n + levels)."""
    d = train.shape[1]
    bits = np.zeros(len(items))
    width = max(1, _CELLS // levels)
    for at in range(0, d, width):
        part, own = train[:, at : at + width], items[:, at : at + width]
        place = np.arange(part.shape[1]) * levels
        counts = np.bincount((part + place).ravel(), minlength=part.shape[1] * levels) + 1.0
        bits -= np.log2(counts / (len(train) + levels))[own + place].sum(1)
    return bits / d
