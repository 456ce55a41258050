"""The front of what was found: points that no other beats on every axis, and the volume that they dominate.

All axes are minimized. The volume lies between the front and a reference point that is worse on every axis
(Zitzler & Thiele, "Multiobjective evolutionary algorithms", 1999); in logarithms, where axes are sizes and
times, it does not depend on their units, and twice as small counts the same everywhere.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from niwaki.core.errors import CallError

__all__ = ["AXES", "hypervolume", "hypervolume_over_time", "nondominated"]

AXES = 5
"""At most: the exact volume takes time that grows with a power of the points for each."""


def nondominated(points: Sequence[Sequence[float]] | np.ndarray) -> list[int]:
    """Numbers of the points `(n, axes)` that no other equals or beats on all axes and beats on one, in order;
    of equal points the first. Infinite values are as bad as can be. Raises CallError for NaN."""
    return _front(_points(points)).tolist()


def hypervolume(
    points: Sequence[Sequence[float]] | np.ndarray, reference: Sequence[float], *, log: Sequence[bool] = ()
) -> float:
    """Volume of all that some point `(n, axes)` beats, up to `reference` `(axes,)`; exact.

    log: per axis whether it is measured in natural logarithms; none by default. There points and reference
         must be above 0.
    Points that are not better than the reference on every axis add nothing.
    Raises CallError for NaN, more than five axes, and what has no logarithm.
    """
    x, corner = _points(points), np.asarray(reference, np.float64)
    if not np.isfinite(corner).all():
        raise CallError("the reference point must be finite")
    if len(corner) > AXES:
        raise CallError(f"the exact volume is computed on up to {AXES} axes, not {len(corner)}")
    if x.size == 0:
        return 0.0
    if x.shape[1] != len(corner):
        raise CallError(f"points have {x.shape[1]} axes and the reference {len(corner)}")
    if log:
        if len(log) != len(corner):
            raise CallError(f"'log' speaks of {len(log)} axes of {len(corner)}")
        x, corner = x.copy(), corner.copy()
        for axis in np.flatnonzero(log):
            if (x[:, axis] <= 0).any() or corner[axis] <= 0:
                raise CallError(f"axis {axis} has values that are not above 0, and so no logarithm")
            x[:, axis], corner[axis] = np.log(x[:, axis]), np.log(corner[axis])
    if not (x > -np.inf).all():
        raise CallError("a point at −∞ dominates an infinite volume")
    return _volume(x[(x < corner).all(1)], corner)


def hypervolume_over_time(
    times: Sequence[float],
    points: Sequence[Sequence[float]] | np.ndarray,
    reference: Sequence[float],
    *,
    log: Sequence[bool] = (),
) -> list[tuple[float, float]]:
    """(time, volume of all points found until then) at every time at which the volume grows.

    times: at which each point was found, s
    """
    if len(times) != len(points):
        raise CallError(f"there are {len(times)} times of {len(points)} points")
    curve: list[tuple[float, float]] = []
    x, front = _points(points), np.zeros(0, np.int64)
    before = 0.0
    for at in np.argsort(np.asarray(times, np.float64), kind="stable"):
        front = np.append(front, at)
        front = front[_front(x[front])]
        volume = hypervolume(x[front], reference, log=log)
        if volume > before:
            before = volume
            if curve and curve[-1][0] == times[at]:
                curve.pop()
            curve.append((float(times[at]), volume))
    return curve


def _points(points: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    x = np.asarray(points, np.float64)
    if x.size and x.ndim != 2:
        raise CallError(f"points are rows of one length, not an array of shape {x.shape}")
    if np.isnan(x).any():
        raise CallError("a point has a value that is not a number")
    return x


def _front(x: np.ndarray) -> np.ndarray:
    """By the sum of ranks, which a point that beats another has lower: each is compared with the front so far
    alone."""
    if len(x) == 0:
        return np.zeros(0, np.int64)
    ranks = np.unique(x, return_inverse=True)[1].reshape(x.shape).sum(1)
    front = np.zeros(0, np.int64)
    for i in np.argsort(ranks, kind="stable"):
        if not (x[front] <= x[i]).all(1).any():
            front = np.append(front, i)
    return np.sort(front)


def _volume(x: np.ndarray, corner: np.ndarray) -> float:
    """Slices along the last axis: between two neighbouring values the section is the volume, one axis fewer,
    of the points below (While et al., "A faster algorithm for calculating hypervolume", 2006)."""
    if len(x) == 0:
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - x[:, 0].min())
    x = x[_front(x)]
    x = x[np.argsort(x[:, -1], kind="stable")]
    heights = np.append(x[:, -1], corner[-1])
    if len(corner) == 2:  # a staircase: each step is as wide as the least so far
        widths = corner[0] - np.minimum.accumulate(x[:, 0])
        return float((widths * np.diff(heights)).sum())
    if len(corner) == 3:
        return _solid(x, corner)
    total = 0.0
    for k, height in enumerate(np.diff(heights)):
        if height > 0:
            total += height * _volume(x[: k + 1, :-1], corner[:-1])
    return float(total)


def _solid(x: np.ndarray, corner: np.ndarray) -> float:
    """Of three axes, x in order of the last: the section is a staircase that grows by one corner, so
    that each slice costs one look at its steps (Fonseca et al., "An improved dimension-sweep algorithm for
    the hypervolume indicator", 2006)."""
    right, top, far = (float(c) for c in corner)
    stairs: list[tuple[float, float]] = []  # by the first axis upwards, the second falls
    area = volume = 0.0
    rows = [(float(a), float(b), float(c)) for a, b, c in x]
    for k, (a, b, c) in enumerate(rows):
        start = bisect_left(stairs, (a, -math.inf))
        level = stairs[start - 1][1] if start else top  # what is dominated above a, before this point
        if level > b:
            stop, edge = start, a
            while stop < len(stairs) and stairs[stop][1] >= b:
                area += (stairs[stop][0] - edge) * (level - b)
                edge, level = stairs[stop]
                stop += 1
            area += ((stairs[stop][0] if stop < len(stairs) else right) - edge) * (level - b)
            stairs[start:stop] = [(a, b)]
        volume += area * ((rows[k + 1][2] if k + 1 < len(rows) else far) - c)
    return volume
