"""Counter-based noise: seed + sample index + draw → the same numbers on every machine, at every batch size.

Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), as in numpy.
The key is (seed, stream << 32 | draw); sample i owns the counters [i·B, (i+1)·B) with B = ⌈d/8⌉ blocks of
four 64-bit words, and each word gives two 32-bit uniforms. Normals come from a fixed-count Box–Muller
transform, never from rejection (ziggurat), whose consumption would depend on the values.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

__all__ = ["STREAMS", "blocks", "normal", "raw", "uniform"]

STREAMS = {"latent": 0, "step": 1, "token": 2, "condition": 3, "project": 4, "member": 5, "watermark": 6}
"""What a draw is for. Different streams never share a number."""

_WORD = (1 << 64) - 1
_COUNTER = (1 << 256) - 1
# Kept as float32, so that nothing is promoted and nothing converted at each draw.
_CELL, _HALF_CELL = np.float32(2.0**-32), np.float32(2.0**-33)
_MINUS_TWO, _TWO_PI = np.float32(-2.0), np.float32(2.0 * math.pi)
_CHUNK = 1 << 15  # values worked on at once


def blocks(size: int) -> int:
    """B = ⌈size/8⌉: Philox blocks that one sample of `size` normals (or 32-bit uniforms) owns."""
    return -(-size // 8)


def raw(seed: int, start: int, n: int, size: int, *, stream: str = "latent", draw: int = 0) -> np.ndarray:
    """32-bit words of the samples start … start+n−1: `(n, size)` uint32, one `random_raw` for them all."""
    if n < 0 or start < 0:
        raise ValueError(f"a range of samples must not be negative: start {start}, n {n}")
    if not 0 <= draw < 1 << 32:
        raise ValueError(f"a draw is numbered 0 … 2³²−1, not {draw}")
    b = blocks(size)
    key = (seed & _WORD, (STREAMS[stream] << 32 | draw) & _WORD)
    # numpy increments the counter before it makes a block, hence the −1 (mod 2²⁵⁶).
    words = _words(key, (start * b - 1) & _COUNTER, n * b * 4)
    return words.view("<u4").reshape(n, b * 8)[:, :size]


class _Philox(threading.local):
    """One generator per thread, placed anew for every draw: eight times as fast as making one."""

    def __init__(self) -> None:
        self.generator = np.random.Philox(key=0)
        self.state: dict[str, Any] = dict(self.generator.state)
        self.state["buffer_pos"] = 4  # nothing left over from the draw before


_philox = _Philox()


def _words(key: tuple[int, int], counter: int, count: int) -> np.ndarray:
    """`count` 64-bit words that follow `counter` under `key`, least significant byte first."""
    limbs = [counter >> shift & _WORD for shift in (0, 64, 128, 192)]
    _philox.state["state"] = {"counter": np.array(limbs, np.uint64), "key": np.array(key, np.uint64)}
    _philox.generator.state = _philox.state  # type: ignore[assignment]
    return _philox.generator.random_raw(count).astype("<u8", copy=False)


def uniform(
    seed: int, start: int, n: int, size: int = 1, *, stream: str = "token", draw: int = 0
) -> np.ndarray:
    """Uniforms in (0, 1): `(n, size)` float64, from 32-bit words at the centre of their cell."""
    return (raw(seed, start, n, size, stream=stream, draw=draw) + 0.5) * 2.0**-32


def normal(
    seed: int, start: int, n: int, shape: tuple[int, ...], *, stream: str = "latent", draw: int = 0
) -> np.ndarray:
    """Standard normals for the samples start … start+n−1: `(n, *shape)` float32.

    Box & Muller (1958): √(−2 ln u₁)·(cos 2πu₂, sin 2πu₂), u₁ from the first half of a sample's words and u₂
    from the second, so that both are contiguous. u₁ > 2⁻³³, so the largest |normal| is 6.8.
    """
    size = math.prod(shape)
    half = 4 * blocks(size)
    words = raw(seed, start, n, 2 * half, stream=stream, draw=draw)
    out = np.empty((n, 2 * half), dtype=np.float32)
    rows = max(1, _CHUNK // (2 * half))
    for at in range(0, n, rows):  # in pieces that stay in the cache: four times as fast as whole arrays
        _box_muller(words[at : at + rows], half, out[at : at + rows])
    return np.ascontiguousarray(out[:, :size]).reshape(n, *shape)


def _box_muller(words: np.ndarray, half: int, out: np.ndarray) -> None:
    """Words `(m, 2·half)` to normals, into `out`."""
    # float32 rounding can carry u₁ to exactly 1, where the logarithm is 0: a normal of 0, not an error.
    u = np.multiply(words, _CELL, dtype=np.float32)
    u += _HALF_CELL
    radius, angle = u[:, :half], u[:, half:]
    np.log(radius, out=radius)
    radius *= _MINUS_TWO
    np.sqrt(radius, out=radius)
    angle *= _TWO_PI
    np.multiply(radius, np.cos(angle), out=out[:, :half])
    np.multiply(radius, np.sin(angle), out=out[:, half:])
