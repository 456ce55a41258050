"""Small data sets of every shape."""

from __future__ import annotations

import numpy as np
import torch

from niwaki.core.contract import DataSpec
from niwaki.data import Dataset, Split


def toy(shape: tuple[int, ...] | str, classes: int = 3, n: int = 90, seed: int = 0) -> Dataset:
    """Classes that differ by a pattern of their own, plus noise; of `"text"`, 24 tokens of eleven."""
    rng = np.random.default_rng(seed)
    if isinstance(shape, str):
        return _tokens(classes, n, seed, rng)
    modality = {1: "vector", 2: "series", 3: "image", 4: "video"}[len(shape)]
    spec = DataSpec.of(modality, shape, classes=classes)
    patterns = rng.normal(size=(max(classes, 1), *shape)) * 0.4

    def split(count: int) -> Split:
        y = rng.integers(0, max(classes, 1), count)
        x = np.clip(patterns[y] + 0.1 * rng.normal(size=(count, *shape)), -1, 1)
        labels = torch.from_numpy(y) if classes else None
        return Split.of(spec, torch.from_numpy(x.astype(np.float32)), labels)

    return Dataset("toy", spec, split(n), split(40), split(40), fingerprint=f"{seed}-{shape}")


def _tokens(classes: int, n: int, seed: int, rng: np.random.Generator) -> Dataset:
    """Each class has a sequence; a tenth of the tokens of a sample are others."""
    spec = DataSpec.of("text", (24,), levels=11, classes=classes)
    patterns = rng.integers(0, 11, (max(classes, 1), 24))

    def split(count: int) -> Split:
        y = rng.integers(0, max(classes, 1), count)
        x = np.where(rng.random((count, 24)) < 0.1, rng.integers(0, 11, (count, 24)), patterns[y])
        return Split.of(spec, torch.from_numpy(x), torch.from_numpy(y) if classes else None)

    return Dataset("toy", spec, split(n), split(40), split(40), fingerprint=f"{seed}-text")
