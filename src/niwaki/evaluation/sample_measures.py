"""Metrics that look at samples and not at one extractor's features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from niwaki.core.contract import DataSpec
from niwaki.data import Dataset
from niwaki.evaluation.metrics.accuracy import find_classifier
from niwaki.evaluation.statistics.result import Result
from niwaki.features import Classifier, Extractor

__all__ = ["SAMPLE_MEASURES", "SampleMeasure", "SampleSets"]


@dataclass(frozen=True)
class SampleSets:
    """What such a metric may use.

    samples:    generated `(n, *shape)`, float32 in the data's range
    labels:     the class that each was asked to be `(n,)`, or None
    order:      rows of the training split that stand in for those of a perfect model
    extractors: all that the evaluation has
    cache:      where what is trained on the way is kept
    """

    samples: np.ndarray
    labels: np.ndarray | None
    dataset: Dataset
    order: np.ndarray
    extractors: Sequence[Extractor]
    seed: int = 0
    cache: Path | None = None

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


def _images_alone(spec: DataSpec, classifier: bool) -> str:
    return "" if spec.axes == "CHW" else f"compares images, and the data are of modality '{spec.modality}'"


def _ms_ssim(sets: SampleSets) -> dict[str, Result]:
    """Within the classes where they are known, beside training samples'."""
    from niwaki.evaluation.metrics.ms_ssim import ms_ssim_diversity

    spec, train = sets.dataset.spec, sets.dataset.train
    known = sets.labels is not None and train.y is not None
    classes = train.y[torch.from_numpy(sets.order)].cpu().numpy() if known and train.y is not None else None
    sides = [
        ms_ssim_diversity(
            np.clip(x, spec.low, spec.high), low=spec.low, high=spec.high, classes=y, seed=sets.seed
        )
        for x, y in ((sets.samples, sets.labels if known else None), (sets.reference, classes))
    ]
    return {"ms_ssim": sides[0].with_floor(sides[1].value)}


def _names_of_modes(spec: DataSpec, classifier: bool) -> str:
    from niwaki.features.channels import channel_labels

    if classifier or channel_labels(spec):
        return ""
    return "needs the features 'classifier', and so labelled data, or labels of every channel"


def _modes(sets: SampleSets) -> dict[str, Result]:
    """By the classes of the channels where the data hold them, else by the classes themselves."""
    from niwaki.evaluation.metrics.modes import modes_reached
    from niwaki.features.channels import channel_labels, train_channel_classifier

    if channel_labels(sets.dataset.spec):
        reader = train_channel_classifier(sets.dataset, cache=sets.cache)
        kinds, name = reader.kinds, reader.name
        made, real = reader(sets.samples), reader(sets.reference)
    else:
        place = find_classifier(sets.extractors)
        assert place is not None  # `_names_of_modes`
        classifier = sets.extractors[place]
        assert isinstance(classifier, Classifier)
        kinds, name = classifier.classes, f"classifier@{classifier.fingerprint[:8]}"
        made, real = (classifier.probabilities(x).argmax(1) for x in (sets.samples, sets.reference))
    ideal = modes_reached(real, kinds, recogniser=name)
    found = modes_reached(made, kinds, recogniser=name)
    return {metric: result.with_floor(ideal[metric].value) for metric, result in found.items()}


SAMPLE_MEASURES = (
    SampleMeasure({"ms_ssim": ("diversity", "lower")}, _images_alone, _ms_ssim),
    SampleMeasure(
        {"modes_reached": ("diversity", "higher"), "modes_divergence": ("diversity", "lower")},
        _names_of_modes,
        _modes,
    ),
)
