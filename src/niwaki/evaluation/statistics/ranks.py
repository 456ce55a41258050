"""Ranks among other values."""

from __future__ import annotations

import numpy as np

__all__ = ["mid_ranks"]


def mid_ranks(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The share of `among` below each value, equal ones by half `(len(values),)`."""
    order = np.sort(among)
    below, up_to = np.searchsorted(order, values, "left"), np.searchsorted(order, values, "right")
    return (below + up_to) / (2.0 * len(order))
