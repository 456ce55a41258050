"""Sounds: the same in time, one pattern of many frequencies, as loud as a share of the moment's sound.

What is above the band, and may be taken away by a coder, carries nothing that matters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from niwaki_runtime.specs import ValueSpec
from niwaki_runtime.watermark.base import Evidence, Mark, of_set, register_mark
from niwaki_runtime.watermark.key import Key
from niwaki_runtime.watermark.tiled import Tile, local_mean

__all__ = ["SoundMark"]

TILE = Tile("sound", (1024,), (0.02, 0.2))
_REACH = 64


@register_mark("audio")
class SoundMark(Mark):
    """strength: of the pattern's deviation, beside the root of the mean square of 129 steps around."""

    strength = 0.05

    def embed(self, x: np.ndarray, spec: ValueSpec, key: Key, strength: float) -> np.ndarray:
        middle = (spec.low + spec.high) / 2 if np.isfinite(spec.high - spec.low) else 0.0
        loudness = np.sqrt(local_mean(np.square(x - middle, dtype=np.float64), _REACH, (x.ndim - 1,)))
        added = strength * loudness * TILE.cover(key, 0, x.shape[-1:])
        return np.asarray(np.clip(x + added, spec.low, spec.high), dtype=np.float32)

    def evidence(
        self, samples: Sequence[np.ndarray], spec: ValueSpec, keys: Sequence[Key]
    ) -> list[tuple[list[Evidence], Evidence]]:
        folded = np.stack([_folded(x) for x in samples])
        sizes = [x.shape[-1] for x in samples]
        found = []
        for key in keys:
            each = [TILE.agreement(f, key, 0, 1, n) for f, n in zip(folded, sizes, strict=True)]
            found.append((each, of_set(each, TILE.together(folded, key, [0] * len(folded), sum(sizes)))))
        return found


def _folded(x: np.ndarray) -> np.ndarray:
    """A sound `(T)` or `(C, T)`, as loud at every moment and at every frequency, on one tile."""
    heard = np.asarray(x, dtype=np.float64).reshape(-1, x.shape[-1]).mean(0)
    heard = heard - heard.mean()
    loudness = np.sqrt(local_mean(heard**2, _REACH, (0,)))
    floor = 1e-3 * max(float(loudness.max()), 1e-12)
    spectrum = np.fft.rfft(np.where(loudness > floor, heard / (loudness + floor), 0.0))
    magnitude = np.abs(spectrum)
    flat = np.divide(spectrum, magnitude, out=np.zeros_like(spectrum), where=magnitude > 1e-9)
    return TILE.fold(np.fft.irfft(flat, len(heard)))
