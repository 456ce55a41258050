"""Which split a sample belongs to is decided by its bytes: its copies can never straddle two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from niwaki.core.contract import CallError

__all__ = ["EXTRA", "OOD", "SPLITS", "by_hash", "choose", "hash_samples", "shares"]

SPLITS = ("train", "validation", "test")
OOD = "ood"
"""Name of the extra split whose samples are from outside the distribution."""
EXTRA = 3  # number of the first extra split in an assignment


def hash_samples(x: Tensor) -> list[bytes]:
    """SHA-256 of every sample's stored bytes."""
    rows = x.contiguous().cpu().numpy().reshape(len(x), -1)
    return [hashlib.sha256(row.tobytes()).digest() for row in rows]


def by_hash(hashes: Sequence[bytes], fractions: Sequence[float], seed: int) -> np.ndarray:
    """Number of each sample's split `(n,)` int64: a function of (seed, the sample's hash) and nothing else.

    A sample keeps its split when others are added or removed. The shares meet `fractions` only on average.
    """
    salt = f"niwaki split {seed}:".encode()
    words = [int.from_bytes(hashlib.sha256(salt + h).digest()[:8], "big") for h in hashes]
    unit = np.array(words, dtype=np.float64) / 2.0**64
    edges = np.cumsum(fractions)[:-1]
    return np.searchsorted(edges, unit, side="right").astype(np.int64)


def shares(total: int, fractions: Sequence[float]) -> tuple[int, ...]:
    """`total` whole things divided by `fractions` (largest remainders), at least one each.

    Raises CallError where there are fewer things than parts.
    """
    if total < len(fractions):
        raise CallError(f"{total} cannot be divided into {len(fractions)} splits")
    exact = np.asarray(fractions) * total
    parts = np.maximum(np.floor(exact).astype(int), 1)
    while parts.sum() < total:
        parts[np.argmax(exact - parts)] += 1
    while parts.sum() > total:
        parts[np.argmax(parts)] -= 1
    return tuple(int(p) for p in parts)


def choose(y: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each wanted class a random member of it: positions in `y`, of the shape of `wanted`; every class
    has one."""
    order = np.argsort(y, kind="stable")
    counts = np.bincount(y, minlength=int(wanted.max()) + 1)
    starts = np.cumsum(counts) - counts
    return order[starts[wanted] + (rng.random(wanted.shape) * counts[wanted]).astype(np.int64)]
