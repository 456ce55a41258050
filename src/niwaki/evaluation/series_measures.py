"""Metrics of generated series: how values hang together in time, and what a network makes of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from niwaki.core.contract import DataSpec
from niwaki.evaluation.metrics import scenarios
from niwaki.evaluation.sample_sets import SampleMeasure, SampleSets
from niwaki.evaluation.statistics.result import Result

__all__ = ["SERIES_MEASURES"]


def _series_alone(spec: DataSpec, classifier: bool) -> str:
    if spec.axes in ("T", "CT") and not spec.is_tokens:
        return ""
    return f"looks at series, and the data are of modality '{spec.modality}'"


def _beside_training(
    name: str, metric: Callable[[np.ndarray, np.ndarray, int], Result]
) -> Callable[[SampleSets], dict[str, Result]]:
    """The metric of the samples, beside that of training samples in their place."""

    def compute(sets: SampleSets) -> dict[str, Result]:
        ideal = metric(sets.real, sets.reference, sets.seed)
        return {name: metric(sets.real, sets.samples, sets.seed).with_floor(ideal.value)}

    return compute


SERIES_MEASURES = tuple(
    SampleMeasure({name: (axis, "lower")}, _series_alone, _beside_training(name, metric))
    for name, axis, metric in (
        (
            "autocorrelation_distance",
            "fidelity",
            lambda real, made, seed: scenarios.autocorrelation_distance(real, made),
        ),
        ("spectrum_distance", "fidelity", lambda real, made, seed: scenarios.spectrum_distance(real, made)),
        (
            "discriminative_score",
            "both",
            lambda real, made, seed: scenarios.discriminative_score(real, made, seed=seed),
        ),
        (
            "predictive_score",
            "both",
            lambda real, made, seed: scenarios.predictive_score(real, made, seed=seed),
        ),
    )
)
