"""How many samples a classifier takes for the class that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from niwaki.evaluation.statistics.result import Result, normal_interval, signature, wilson
from niwaki.features import Classifier, Extractor

__all__ = ["find_classifier", "paired_accuracy", "recognised"]


def find_classifier(extractors: Sequence[Extractor]) -> int | None:
    """Position of the extractor that can tell classes."""
    return next((i for i, e in enumerate(extractors) if isinstance(e, Classifier)), None)


def recognised(
    classifier: Classifier, features: np.ndarray, labels: np.ndarray, split: str, real: int
) -> Result:
    """Share recognised as asked; `per_sample` is 1 or 0. The floor is the classifier's accuracy on the split
    that is judged by, of `real` samples."""
    hit = (classifier.probabilities_of(features).argmax(1) == labels).astype(np.float64)
    text = signature("recognised", features=f"classifier@{classifier.fingerprint[:8]}", n=len(hit))
    floor = classifier.accuracy.get(split)
    return Result(float(hit.mean()), wilson(hit.sum(), len(hit)), floor, hit, (real, len(hit)), None, text)


def paired_accuracy(
    extractors: Sequence[Extractor],
    features: Sequence[tuple[np.ndarray, np.ndarray, float]],
    labels: np.ndarray | None,
) -> dict[str, Any]:
    """Shares recognised before and after, their paired difference with its 95 % interval; {} without a
    classifier."""
    place = find_classifier(extractors)
    if place is None or labels is None:
        return {}
    classifier = extractors[place]
    assert isinstance(classifier, Classifier)
    hits = [(classifier.probabilities_of(f).argmax(1) == labels).astype(float) for f in features[place][:2]]
    difference = hits[0] - hits[1]
    delta = float(difference.mean())
    interval = normal_interval(delta, float(difference.std(ddof=1)) / len(difference) ** 0.5)
    return {
        "before": float(hits[0].mean()),
        "after": float(hits[1].mean()),
        "delta": delta,
        "interval": list(interval),
    }
