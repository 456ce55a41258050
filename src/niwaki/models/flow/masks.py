"""Which values of a sample a coupling layer moves, and which it looks at."""

from __future__ import annotations

import itertools
import math

import numpy as np

__all__ = ["coupling_masks"]


def coupling_masks(shape: tuple[int, ...], count: int) -> list[np.ndarray]:
    """`count` masks `(size,)` over flattened samples; True stays and is looked at, False is moved.

    Two that follow each other are complements, so that two layers move every value. The pairs take turns:
    the checkerboard, then every second row, column and channel (the channel masks that Dinh et al. 2017,
    Figure 3, apply after squeezing), then the halves of each axis.
    Raises ValueError for samples of a single value, which has nothing to be looked at.
    """
    if math.prod(shape) < 2:
        raise ValueError(f"a coupling needs at least two values, not the shape {shape}")
    places = np.indices(shape).reshape(len(shape), -1)
    wide = [axis for axis, size in enumerate(shape) if size > 1]
    patterns = [places.sum(0) % 2 == 0]
    patterns += [places[axis] % 2 == 0 for axis in reversed(wide)] if len(wide) > 1 else []
    patterns += [places[axis] < (shape[axis] + 1) // 2 for axis in reversed(wide)]
    pairs = itertools.cycle([m for m in patterns if 0 < m.sum() < m.size])
    return [m for pair in itertools.islice(pairs, (count + 1) // 2) for m in (pair, ~pair)][:count]
