"""Results beside the truth and beside what needs no model, as a use records them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from niwaki.data.dataset import Dataset
from niwaki.evaluation.metrics.feature_distance import feature_distances
from niwaki.evaluation.metrics.restored import psnr, structural_similarity
from niwaki.evaluation.statistics.result import mean_interval
from niwaki.features.build import build
from niwaki_runtime.specs import ValueSpec

__all__ = ["against_truth", "lines_of", "side_by_side"]

_FEATURES = "random"
_AMONG = 512
"""Test samples whose distances from each other are the unit of those in features."""


def against_truth(
    made: Mapping[str, np.ndarray], truth: np.ndarray, spec: ValueSpec, dataset: Dataset | None
) -> dict[str, dict[str, Any]]:
    """For each of `made`: mean `psnr` in dB, `ssim` and, given the data, `feature_distance` (features of
    random networks; 1: as far as a real sample's nearest neighbour), each with its 95 % interval.

    made, truth: `(n, *shape)`, the truth in order
    """
    far = {}
    if dataset is not None and len(truth) > 1:
        extractor = build([_FEATURES], dataset)[0]
        among = dataset.test.values().cpu().numpy()[:_AMONG]
        far = feature_distances(extractor, made, truth, among)
    found: dict[str, dict[str, Any]] = {}
    for name, x in made.items():
        each = {"psnr": psnr(x, truth, spec.high - spec.low)}
        alike = structural_similarity(x, truth, spec)
        if alike is not None:
            each["ssim"] = alike
        if name in far:
            each["feature_distance"] = far[name]
        found[name] = {k: float(v.mean()) for k, v in each.items()}
        if len(truth) > 1:
            found[name]["intervals"] = {k: [float(e) for e in mean_interval(v)] for k, v in each.items()}
    return found


def lines_of(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each of what `against_truth` gives."""
    words = {"psnr": "{:.2f} dB", "ssim": "SSIM {:.3f}", "feature_distance": "{:.2f} in features"}
    return [
        f"{name}: " + ", ".join(word.format(figures[k]) for k, word in words.items() if k in figures)
        for name, figures in measured.items()
    ]


def side_by_side(*columns: np.ndarray) -> tuple[np.ndarray, int]:
    """Rows of a sheet, a case after the other: `(n · columns, …)`, and how many stand in a row of it: several
    cases where there are many."""
    n, width = len(columns[0]), len(columns)
    cases = max(1, round((n / width) ** 0.5))
    return np.stack(columns, 1).reshape(n * width, *columns[0].shape[1:]), width * cases
