"""What a use has to beat: restorations that need no model, each in one line of arithmetic."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["bicubic", "edge_fill", "mean_fill", "neighbour_fill"]

_ROWS = 64
"""Samples compared with the training data at once."""


def mean_fill(x: np.ndarray, known: np.ndarray, train: np.ndarray) -> np.ndarray:
    """x where it is known, elsewhere the mean of the training samples at that pixel.

    x: `(n, *shape)`; known: 1 or 0, broadcasts against x; train: `(m, *shape)`
    """
    mean = train.mean(0, dtype=np.float64).astype(x.dtype)
    return np.asarray(known * x + (1.0 - known) * mean, x.dtype)


def neighbour_fill(x: np.ndarray, known: np.ndarray, train: np.ndarray) -> np.ndarray:
    """x where it is known, elsewhere the training sample that differs least in the known pixels, by squares.

    Shapes as of `mean_fill`.
    """
    weight = np.broadcast_to(known, x.shape).reshape(len(x), -1).astype(np.float64)
    flat, other = x.reshape(len(x), -1).astype(np.float64), train.reshape(len(train), -1).astype(np.float64)
    nearest = np.empty(len(x), np.int64)
    for at in range(0, len(x), _ROWS):
        w, here = weight[at : at + _ROWS], flat[at : at + _ROWS]
        distance = w @ np.square(other).T - 2.0 * (w * here) @ other.T  # + Σ w x², alike for all
        nearest[at : at + _ROWS] = distance.argmin(1)
    return np.asarray(known * x + (1.0 - known) * train[nearest], x.dtype)


def edge_fill(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """x where it is known, elsewhere the nearest known pixel.

    x: `(n, C, H, W)`; known: `(n, 1, H, W)`, 1 somewhere in each
    """
    from scipy.ndimage import distance_transform_edt

    out = x.copy()
    for made, one in zip(out, known, strict=True):
        at = distance_transform_edt(one[0] == 0, return_distances=False, return_indices=True)
        made[:] = made[:, at[0], at[1]]
    return out


def bicubic(small: np.ndarray, factor: int, low: float, high: float) -> np.ndarray:
    """`(n, C, H, W)` enlarged `factor` times by cubic convolution (Keys 1981, a = −¾), within low … high."""
    large = F.interpolate(torch.from_numpy(small), scale_factor=factor, mode="bicubic", align_corners=False)
    return np.clip(large.numpy(), low, high)
