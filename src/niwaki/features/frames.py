"""A classifier of single frames: what each frame of a clip shows, and whether it is the same all along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from niwaki.core.contract import DataSpec, ValueSpec
from niwaki.core.store import hash_json
from niwaki.data import Dataset, Split
from niwaki.features.classifier import Classifier, train_classifier
from niwaki.features.extractor import Array

__all__ = ["FrameClassifier", "train_frame_classifier"]

_EACH = 3
"""Frames of a clip that it learns from: neighbours look alike."""
_CLIPS = 2000
"""Clips of a split that it learns from, at most."""


class FrameClassifier:
    """Clips → the class of every frame.

    classifier: of one frame
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    @property
    def name(self) -> str:
        return f"frames@{self.classifier.fingerprint[:8]}"

    def __call__(self, x: Array) -> np.ndarray:
        """`(n, T, C, H, W)` in the data's range → classes `(n, T)` int64."""
        x = np.asarray(x, dtype=np.float32)
        found = self.classifier.probabilities(x.reshape(-1, *x.shape[2:])).argmax(1)
        return found.reshape(x.shape[:2])


def train_frame_classifier(
    dataset: Dataset, *, cache: Path | None = None, seed: int = 0, device: str = "auto"
) -> FrameClassifier:
    """From the cache, or trained now on some frames of each training clip, with the clip's class.

    Raises CallError for clips without classes.
    """
    train = _frames(dataset.train)
    single = Dataset(
        f"frames of {dataset.name}",
        train.spec,
        train=train,
        validation=_frames(dataset.validation),
        test=_frames(dataset.test),
        fingerprint=hash_json(["frames", _EACH, _CLIPS, dataset.fingerprint]),
    )
    return FrameClassifier(train_classifier(single, cache=cache, seed=seed, device=device))


def _frames(split: Split) -> Split:
    """Some frames of each clip as images with its class."""
    spec = split.spec.x
    image = ValueSpec("image", spec.shape[1:], None, spec.values)
    at = torch.linspace(0, spec.shape[0] - 1, min(_EACH, spec.shape[0])).round().long()
    x = split.x[:_CLIPS, at].flatten(0, 1)
    y = None if split.y is None else split.y[:_CLIPS].repeat_interleave(len(at))
    columns = {"x": image} if y is None else {"x": image, "class": split.spec["class"]}
    return Split.of(DataSpec(columns), x, y)
