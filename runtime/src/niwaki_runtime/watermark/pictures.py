"""Pictures and films: a spread-spectrum pattern as strong as what is near it (Cox et al. 1997, with a mask of
local contrast), the same in all colours and frames.

A flat place carries nothing, so that nothing is visible there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from niwaki_runtime import noise
from niwaki_runtime.specs import ValueSpec
from niwaki_runtime.watermark.base import Evidence, Mark, of_set, register_mark
from niwaki_runtime.watermark.key import Key
from niwaki_runtime.watermark.tiled import Tile, local_mean

__all__ = ["PictureMark"]

TILE = Tile("picture", (16, 16), (0.06, 0.36))
"""Between what pictures consist of and what JPEG takes away."""
_REACH = 2
_COARSE = 4
_BITS = 4
VARIANTS = 1 << _BITS


@register_mark("image", "video")
class PictureMark(Mark):
    """strength: of the pattern's deviation, beside the deviation of 5 × 5 pixels around."""

    strength = 0.15

    def embed(self, x: np.ndarray, spec: ValueSpec, key: Key, strength: float) -> np.ndarray:
        colours = _colours(x, x.ndim - 3)
        pattern = np.stack([TILE.cover(key, variant_of(one, key), one.shape[-2:]) for one in x])
        pattern = pattern.reshape(len(x), *(1,) * (x.ndim - 3), *x.shape[-2:])
        added = strength * _contrast(colours.mean(-3, keepdims=True)) * pattern
        out = np.array(x, dtype=np.float32)
        out[..., : colours.shape[-3], :, :] = np.clip(colours + added, spec.low, spec.high)
        return out

    def evidence(
        self, samples: Sequence[np.ndarray], spec: ValueSpec, keys: Sequence[Key]
    ) -> list[tuple[list[Evidence], Evidence]]:
        folded = np.stack([_folded(x) for x in samples])
        sizes = [x.shape[-1] * x.shape[-2] * (x.shape[0] if x.ndim == 4 else 1) for x in samples]
        found = []
        for key in keys:
            variants = [variant_of(x, key) for x in samples]
            each = [
                TILE.agreement(f, key, v, VARIANTS, n)
                for f, v, n in zip(folded, variants, sizes, strict=True)
            ]
            found.append((each, of_set(each, TILE.together(folded, key, variants, sum(sizes)))))
        return found


def variant_of(x: np.ndarray, key: Key) -> int:
    """Which of the key's patterns a picture carries, by what it shows: the signs of keyed sums of its 4 × 4
    coarse brightnesses. Pictures of one set then carry different patterns, so that neither their mean shows
    the mark nor what they have in common hides it; noise, JPEG and rounding change few of the signs."""
    grey = _colours(x, x.ndim - 3).mean(tuple(range(x.ndim - 2)), dtype=np.float64)
    rows = np.array_split(grey, min(_COARSE, grey.shape[0]), 0)
    coarse = np.array([
        part.mean() for row in rows for part in np.array_split(row, min(_COARSE, grey.shape[1]), 1)
    ])  # fmt: skip
    weights = noise.normal(key.seed("variant"), 0, _BITS, coarse.shape)
    return int((weights @ (coarse - coarse.mean()) > 0) @ (1 << np.arange(_BITS)))


def _colours(x: np.ndarray, axis: int) -> np.ndarray:
    """Without the fourth channel, which says how opaque a place is."""
    return x.take(range(3), axis) if x.shape[axis] == 4 else x


def _contrast(x: np.ndarray) -> np.ndarray:
    """Standard deviation around each pixel."""
    mean = local_mean(x, _REACH, (x.ndim - 2, x.ndim - 1))
    square = local_mean(np.square(x, dtype=np.float64), _REACH, (x.ndim - 2, x.ndim - 1))
    return np.sqrt(np.maximum(square - mean**2, 0.0))


def _folded(x: np.ndarray) -> np.ndarray:
    """What a picture `(C, H, W)`, or the frames of a film `(T, C, H, W)`, leave of their surroundings,
    in units of their contrast, on one tile."""
    grey = np.asarray(_colours(x, x.ndim - 3), dtype=np.float64).mean(-3)
    grey = grey.reshape(-1, *grey.shape[-2:])
    left = grey - local_mean(grey, 1, (1, 2))
    contrast = _contrast(grey)
    floor = 1e-3 * max(float(contrast.max()), 1e-12)
    return np.sum(
        [TILE.fold(one) for one in np.where(contrast > floor, left / (contrast + floor), 0.0)], axis=0
    )
