"""Metrics that look at samples and not at one extractor's features: what they may use, and what one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from niwaki.core.contract import DataSpec
from niwaki.data import Dataset
from niwaki.evaluation.statistics.result import Result
from niwaki.features import Extractor

__all__ = ["SampleMeasure", "SampleSets"]


@dataclass(frozen=True)
class SampleSets:
    """What such a metric may use.

    samples:    generated `(n, *shape)`, float32 in the data's range
    labels:     the class that each was asked to be `(n,)`, or None
    order:      rows of the training split that stand in for those of a perfect model
    extractors: all that the evaluation has
    split:      the real samples to judge by
    cache:      where what is trained on the way is kept
    """

    samples: np.ndarray
    labels: np.ndarray | None
    dataset: Dataset
    order: np.ndarray
    extractors: Sequence[Extractor]
    seed: int = 0
    cache: Path | None = None
    split: str = "test"

    @cached_property
    def real(self) -> np.ndarray:
        """The real samples to judge by."""
        return self.dataset.split(self.split).values().cpu().numpy()

    @cached_property
    def reference(self) -> np.ndarray:
        """Training samples in their place."""
        return self.dataset.train.values(torch.from_numpy(self.order)).cpu().numpy()


@dataclass(frozen=True)
class SampleMeasure:
    """
    kinds:   metric → (axis, which way is better)
    lacks:   (spec of the data, whether a classifier is among the extractors) → what it would need; "" where
             it can be had
    compute: its results, each with its floor
    """

    kinds: dict[str, tuple[str, str]]
    lacks: Callable[[DataSpec, bool], str]
    compute: Callable[[SampleSets], dict[str, Result]]
