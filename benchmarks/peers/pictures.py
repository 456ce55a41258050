"""What 8×8 digits are worth, by one function for both sides: Fréchet distance and coverage ÷ those of
training samples, and how many are recognised as asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.data import DataConfig, Dataset, load
from niwaki.evaluation import frechet_distance, manifold
from niwaki.evaluation.statistics.samples import drawn_alike
from niwaki.features import build as build_extractors

__all__ = ["figures"]


@cache
def _eye() -> tuple[Dataset, Any]:
    data = load(DataConfig(source="digits"))
    return data, build_extractors(["classifier"], data)[0]


def figures(sample: Callable[[int, int], Tensor], *, seeds: int = 3, classes: int = 0) -> dict[str, float]:
    """Of `sample(n, seed)`, values in −1 … 1: means over sampling seeds, n = the test split.

    classes: sample i was asked to be of class i mod so many; 0 for samples that were asked nothing
    """
    data, eye = _eye()
    n = len(data.test)
    real, found = eye(data.test.values()), []
    labels = np.arange(n) % classes if classes else None
    for seed in range(seeds):
        x = sample(n, seed)
        made, train = eye(x), eye(data.train.values(torch.from_numpy(drawn_alike(data, labels, n, seed))))
        each = {
            "frechet": frechet_distance(real, made).value / frechet_distance(real, train).value,
            "coverage": float(manifold(real, made).coverage) / float(manifold(real, train).coverage),
        }
        if labels is not None:
            each["recognised"] = float((eye.probabilities(x).argmax(1) == labels).mean())
        found.append(each)
    return {key: float(np.mean([each[key] for each in found])) for key in found[0]}
