"""A pattern that repeats: spread over all of a sample, and gathered again from any part of it.

Detection is exact. The pattern is a filtered white normal field, so its correlation with *anything* that does
not depend on the key is normal over keys, with a variance that the file itself tells (`Tile._scores`).
No model of pictures or sounds is assumed; how they are filtered decides the power alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from niwaki_runtime import noise
from niwaki_runtime.watermark.base import Evidence
from niwaki_runtime.watermark.chances import at_least_one, normal_tail
from niwaki_runtime.watermark.key import Key

__all__ = ["Tile", "local_mean"]


_ENOUGH = 16
"""Files of a set from which on it tells what they have in common."""
_RIDGE = 0.05
_RIDGE = 0.05


@dataclass(frozen=True)
class Tile:
    """
    label: what the pattern is for; patterns of different labels are independent
    shape: after which it repeats
    band:  least and largest radial frequency, cycles per value
    """

    label: str
    shape: tuple[int, ...]
    band: tuple[float, float]

    @cached_property
    def filter(self) -> np.ndarray:
        """Gains of the frequencies, real and even; white noise of variance 1 keeps it."""
        axes = np.meshgrid(*(np.fft.fftfreq(size) for size in self.shape), indexing="ij")
        radius = np.sqrt(sum(axis**2 for axis in axes))
        gain = ((radius >= self.band[0]) & (radius <= self.band[1])).astype(np.float64)
        return np.asarray(gain / np.sqrt(np.mean(gain**2)))

    def pattern(self, key: Key, variant: int) -> np.ndarray:
        """One of the key's independent fields, variance 1 on average over keys."""
        return _pattern(self, key, variant)

    def cover(self, key: Key, variant: int, shape: tuple[int, ...]) -> np.ndarray:
        """A pattern repeated over `shape`."""
        repeats = [-(-size // tile) for size, tile in zip(shape, self.shape, strict=True)]
        return np.tile(self.pattern(key, variant), repeats)[tuple(slice(size) for size in shape)]

    def fold(self, x: np.ndarray) -> np.ndarray:
        """The sum of all places that lie on the same place of the tile: `x` of as many axes as the tile."""
        padded = np.pad(x, [(0, -size % tile) for size, tile in zip(x.shape, self.shape, strict=True)])
        split = [k for size, tile in zip(padded.shape, self.shape, strict=True) for k in (size // tile, tile)]
        return np.asarray(padded.reshape(split).sum(axis=tuple(range(0, 2 * x.ndim, 2))))

    def agreement(self, folded: np.ndarray, key: Key, variant: int, variants: int, n: int) -> Evidence:
        """Of a folded residual with the key's patterns: with the one that is expected, in place, and with
        all, over all cyclic shifts (a file that was cut); the better of both by Bonferroni."""
        z = self._scores(folded, key, range(variants))
        aligned, shifted = float(z[variant].flat[0]), float(z.max())
        of_aligned = at_least_one(normal_tail(aligned), 2)
        of_shifted = at_least_one(normal_tail(shifted), 2 * z.size)
        best = aligned if of_aligned <= of_shifted else shifted
        return Evidence(min(of_aligned, of_shifted), best, n)

    def together(self, folded: np.ndarray, key: Key, variants: Sequence[int], n: int) -> Evidence:
        """Of a set's residuals `(n, *shape)`, each with the pattern that is expected: what the files of one
        pattern agree in, over the patterns. What all files have in common is taken away first."""
        if len(folded) >= _ENOUGH:
            folded = _whitened(folded)
        of = np.asarray(variants)
        used = sorted(set(variants))
        z = [float(self._scores(folded[of == v].sum(axis=0), key, [v]).flat[0]) for v in used]
        whole = sum(z) / math.sqrt(len(z))
        return Evidence(normal_tail(whole), whole, n)

    def _scores(self, folded: np.ndarray, key: Key, variants: Sequence[int]) -> np.ndarray:
        """Standard normal over keys, of each pattern at every cyclic shift `(v, *shape)`: <F, h∗W> = <h∗F, W>
        has the variance |h∗F|² over white fields W."""
        spectrum = np.fft.fftn(folded)
        magnitude = np.abs(spectrum)
        # Only the phase is compared: else the few frequencies in which the content lies outweigh the mark.
        spectrum = np.divide(spectrum, magnitude, out=np.zeros_like(spectrum), where=magnitude > 1e-9)
        deviation = math.sqrt(float(np.sum(np.abs(spectrum * self.filter) ** 2)) / spectrum.size)
        if deviation < 1e-12:
            return np.zeros((len(variants), *self.shape))
        patterns = np.stack([_conjugate(self, key, v) for v in variants])
        z = np.fft.ifftn(spectrum * patterns, axes=tuple(range(1, patterns.ndim)))
        return np.asarray(z.real / deviation)


def _whitened(folded: np.ndarray) -> np.ndarray:
    """Residuals `(n, *shape)` without their mean, and as little of what varies among them as can be: the
    directions of the files' own variance weigh by its inverse (Fisher 1936), a twentieth of it added."""
    rows = (folded - folded.mean(axis=0)).reshape(len(folded), -1)
    covariance = rows.T @ rows / len(rows)
    ridge = _RIDGE * max(float(np.trace(covariance)) / len(covariance), 1e-12)
    flat = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), rows.T).T
    return np.asarray(flat.reshape(folded.shape))


@lru_cache(maxsize=1024)
def _pattern(tile: Tile, key: Key, variant: int) -> np.ndarray:
    white = noise.normal(key.seed(tile.label, variant), 0, 1, tile.shape)[0].astype(np.float64)
    made = np.fft.ifftn(np.fft.fftn(white) * tile.filter).real
    made.setflags(write=False)
    return np.asarray(made)


@lru_cache(maxsize=1024)
def _conjugate(tile: Tile, key: Key, variant: int) -> np.ndarray:
    return np.conj(np.fft.fftn(_pattern(tile, key, variant)))


def local_mean(x: np.ndarray, reach: int, axes: tuple[int, ...]) -> np.ndarray:
    """The mean of 2·reach + 1 values along each axis, ends repeated."""
    for axis in axes:
        width = 2 * reach + 1
        padded = np.pad(x, [(reach + 1, reach) if a == axis else (0, 0) for a in range(x.ndim)], mode="edge")
        sums = np.cumsum(padded, axis=axis, dtype=np.float64)
        size = x.shape[axis]
        x = (sums.take(range(width, width + size), axis) - sums.take(range(size), axis)) / width
    return x
