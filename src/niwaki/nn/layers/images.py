"""Checks and conversions that every image model shares."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, ConditionSpec, DataSpec, Levels

__all__ = [
    "Squash",
    "class_condition",
    "class_shares",
    "even_shares",
    "image_shape",
    "labels_of",
    "level_of",
    "to_signed",
    "to_unit",
]


def image_shape(spec: DataSpec, model: str) -> tuple[int, int, int]:
    """(C, H, W) of an image spec. Raises CallError where the samples are not images of at least 4×4."""
    if spec.axes != "CHW" or spec.is_tokens:
        raise CallError(
            f"'{model}' makes images (C, H, W); this data set holds {spec.modality} of shape {spec.shape}"
        )
    channels, height, width = spec.shape
    if min(height, width) < 4:
        raise CallError(f"'{model}' needs images of at least 4×4 pixels, not {height}×{width}")
    return channels, height, width


def labels_of(batch: Batch, classes: int, model: str) -> Tensor | None:
    """The batch's labels where the model is conditional, else None. Raises CallError where it has none."""
    if classes and "class" not in batch:
        raise CallError(
            f"'{model}' is conditional, and the batch has no labels; set conditional: false for this data"
        )
    return batch["class"] if classes else None


def class_condition(spec: DataSpec, null: int | None = None) -> dict[str, ConditionSpec]:
    """The condition `class` of a model of these data; `null` is the number that means no class."""
    return {"class": ConditionSpec(spec["class"], null)}


def even_shares(classes: int) -> Tensor:
    """log p(y) `(max(classes, 1),)` while nothing is known of the classes."""
    return torch.full((max(classes, 1),), -math.log(max(classes, 1)))


def class_shares(labels: Tensor, classes: int) -> Tensor:
    """log p(y) `(classes,)` of labels `(n,)`, each counted once more than it was seen."""
    counts = torch.bincount(labels, minlength=classes) + 1.0
    return torch.log(counts / counts.sum())


def level_of(x: Tensor, values: Levels) -> Tensor:
    """Values as seen → numbers of the nearest levels, int64."""
    return ((x - values.low) / values.step).round().long().clamp(0, values.n - 1)


def to_unit(x: Tensor, spec: DataSpec) -> Tensor:
    """[low, high] → [0, 1]"""
    return (x - spec.low) / (spec.high - spec.low)


def to_signed(x: Tensor, spec: DataSpec) -> Tensor:
    """[low, high] → [−1, 1]; no operation where that is the range already."""
    if (spec.low, spec.high) == (-1.0, 1.0):
        return x
    return 2.0 * to_unit(x, spec) - 1.0


class Squash(nn.Module):
    """tanh into [low, high]."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.middle = (high + low) / 2.0
        self.scale = (high - low) / 2.0

    def forward(self, x: Tensor) -> Tensor:
        x = x.tanh()
        return x if (self.middle, self.scale) == (0.0, 1.0) else self.middle + self.scale * x
