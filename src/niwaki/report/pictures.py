"""Samples as small pictures inside the page."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from niwaki.core.contract import DataSpec
from niwaki.modalities import modality_of

__all__ = ["difference", "drawable", "kind", "picture", "spread"]


def drawable(spec: DataSpec | None) -> bool:
    """Whether a sample is a picture by itself: an image, a clip, curves."""
    return spec is not None and modality_of(spec.x).draws(spec.x)


def picture(sample: np.ndarray, spec: DataSpec) -> str:
    """One sample as the address of an image."""
    return modality_of(spec.x).show(sample, spec.x).data


def difference(before: np.ndarray, after: np.ndarray, spec: DataSpec) -> str:
    """Where two samples differ, as the address of an image; empty where that says nothing."""
    shown = modality_of(spec.x).show_difference(before, after, spec.x)
    return "" if shown is None else shown.data


def spread(labels: np.ndarray | None, total: int, count: int) -> list[int]:
    """Positions of `count` samples, the classes in turn; of more classes than that, an even choice."""
    if labels is None:
        return list(range(min(total, count)))
    classes = np.unique(labels)
    if len(classes) > count:
        classes = classes[np.linspace(0, len(classes) - 1, count).round().astype(int)]
    queues = [np.flatnonzero(labels == c).tolist() for c in classes]
    longest = max(map(len, queues))
    return [q[r] for r in range(longest) for q in queues if r < len(q)][:count]


def kind(sample: np.ndarray, spec: DataSpec, files: Mapping[str, str] | None = None) -> str:
    """As what a sample is shown: `picture`, `plot`, `sound`, `text`."""
    return modality_of(spec.x).show(sample, spec.x, files).kind
