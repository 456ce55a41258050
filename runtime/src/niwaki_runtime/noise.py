"""Counter-based noise: seed + sample index + draw → the same numbers on every machine, at every batch size.

Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), as in numpy.
The key is (seed, stream << 32 | draw); sample i owns the counters [i·B, (i+1)·B) with B = ⌈d/8⌉ blocks of four 64-bit
words, and each word gives two 32-bit uniforms. Normals come from a fixed-count Box–Muller transform: never from
rejection (ziggurat), whose consumption would depend on the values.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["STREAMS", "blocks", "normal", "raw", "uniform"]

STREAMS = {"latent": 0, "step": 1, "token": 2, "condition": 3, "project": 4}
"""What a draw is for. Different streams never share a number."""

_WORD = (1 << 64) - 1
_COUNTER = (1 << 256) - 1
_TWO_PI = 2.0 * math.pi
_CHUNK = 1 << 15  # values worked on at once


def blocks(size: int) -> int:
    """B = ⌈size/8⌉: Philox blocks that one sample of `size` normals (or 32-bit uniforms) owns."""
    return -(-size // 8)


def raw(seed: int, start: int, n: int, size: int, *, stream: str = "latent", draw: int = 0) -> np.ndarray:
    """32-bit words of the samples start … start+n−1: `(n, size)` uint32, one `random_raw` for the whole range."""
    if n < 0 or start < 0:
        raise ValueError(f"a range of samples must not be negative: start {start}, n {n}")
    b = blocks(size)
    key = np.array([seed & _WORD, (STREAMS[stream] << 32 | draw) & _WORD], dtype=np.uint64)
    # numpy increments the counter before it makes a block, hence the −1 (mod 2²⁵⁶).
    generator = np.random.Philox(key=key, counter=(start * b - 1) & _COUNTER)
    words = generator.random_raw(n * b * 4).astype("<u8", copy=False)
    return words.view("<u4").reshape(n, b * 8)[:, :size]


def uniform(
    seed: int, start: int, n: int, size: int = 1, *, stream: str = "token", draw: int = 0
) -> np.ndarray:
    """Uniforms in (0, 1): `(n, size)` float64, from 32-bit words at the centre of their cell."""
    return (raw(seed, start, n, size, stream=stream, draw=draw) + 0.5) * 2.0**-32


def normal(
    seed: int, start: int, n: int, shape: tuple[int, ...], *, stream: str = "latent", draw: int = 0
) -> np.ndarray:
    """Standard normals for the samples start … start+n−1: `(n, *shape)` float32.

    Box & Muller (1958): √(−2 ln u₁)·(cos 2πu₂, sin 2πu₂), u₁ from the first half of a sample's words and u₂ from the
    second, so that both are contiguous. u₁ > 2⁻³³, so the largest |normal| is 6.8.
    """
    size = math.prod(shape)
    half = 4 * blocks(size)
    words = raw(seed, start, n, 2 * half, stream=stream, draw=draw)
    out = np.empty((n, 2 * half), dtype=np.float32)
    rows = max(1, _CHUNK // (2 * half))
    for at in range(0, n, rows):  # in pieces that stay in the cache: four times as fast as whole arrays
        part = slice(at, min(at + rows, n))
        # float32 rounding can carry u₁ to exactly 1, where the logarithm is 0: a normal of 0, not an error.
        u = np.multiply(words[part], np.float32(2.0**-32), dtype=np.float32) + np.float32(2.0**-33)
        radius = np.log(u[:, :half])
        radius *= np.float32(-2.0)
        np.sqrt(radius, out=radius)
        angle = u[:, half:] * np.float32(_TWO_PI)
        np.multiply(radius, np.cos(angle), out=out[part, :half])
        np.multiply(radius, np.sin(angle), out=out[part, half:])
    return np.ascontiguousarray(out[:, :size]).reshape(n, *shape)
