"""Vector data with known modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from niwaki.core.contract import DataSpec
from niwaki.data import Dataset, Split


class Identity:
    """Features that are the samples themselves."""

    name = "identity"
    fingerprint = "0" * 64
    dim = 6

    def __call__(self, x: Any, batch: int = 256) -> np.ndarray:
        return np.asarray(x, dtype=np.float32).reshape(len(x), -1)


def vector_dataset(rng: np.random.Generator, centres: np.ndarray, sizes: tuple[int, int, int]) -> Dataset:
    spec = DataSpec.of("vector", (centres.shape[1],), low=-20.0, high=20.0, classes=len(centres))

    def split(n: int) -> Split:
        c = rng.integers(0, len(centres), n)
        x = centres[c] + rng.normal(size=(n, centres.shape[1]))
        return Split.of(spec, torch.from_numpy(x.astype(np.float32)), torch.from_numpy(c))

    parts = [split(n) for n in sizes]
    return Dataset("modes", spec, *parts, fingerprint="1" * 64)
