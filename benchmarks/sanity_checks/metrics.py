"""The metrics under test. All see the sets standardised by the real one's means and deviations, as in the
authors' code."""

from __future__ import annotations

import contextlib
from functools import partial

import numpy as np

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.alpha_beta import alpha_beta
from niwaki.evaluation.metrics.lsh import lsh_precision_recall
from niwaki.evaluation.metrics.manifold import manifold
from niwaki.evaluation.metrics.support import support
from niwaki.evaluation.pairwise.neighbourhood import neighbourhood, rarefied_coverage

__all__ = ["METRICS", "measure", "standardised"]

METRICS = {
    "fidelity": (
        "improved precision", "density", "clipped density", "α-precision", "LSH precision", "log realism",
        "support precision",
    ),
    "diversity": (
        "improved recall", "coverage", "clipped coverage", "β-recall", "LSH recall", "rarefied coverage",
        "support coverage",
    ),
}  # fmt: skip


def standardised(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets in the real one's standard deviations (1 where it is constant) from its means."""
    deviation = real.std(axis=0)
    deviation[deviation == 0] = 1.0
    return (real - real.mean(axis=0)) / deviation, (generated - real.mean(axis=0)) / deviation


def measure(real: np.ndarray, generated: np.ndarray, seed: int) -> dict[str, float]:
    """Every metric by name; NaN, which passes nothing, where one refuses the sets (real ones all copies).

    Balls include their border (≤), as the authors' do: with `<` rounded numbers score 0. Precision and recall
    take k = 3, all others k = 5.
    """
    x, y = standardised(real, generated)
    values = {name: np.nan for names in METRICS.values() for name in names}
    for part in (_balls, _curves, _places, _support, partial(_buckets, seed=seed)):
        with contextlib.suppress(CallError):
            values |= part(x, y)
    return values


def _balls(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    three, five = (manifold(x, y, k=k, compat="kynkaat") for k in (3, 5))
    return {
        "improved precision": three.precision.value,
        "improved recall": three.recall.value,
        "density": five.density.value,
        "coverage": five.coverage.value,
        "clipped density": five.clipped_density.value,
        "clipped coverage": five.clipped_coverage.value,
    }


def _curves(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    found = alpha_beta(x, y)
    return {"α-precision": found.precision.value, "β-recall": found.recall.value}


def _buckets(x: np.ndarray, y: np.ndarray, seed: int) -> dict[str, float]:
    found = lsh_precision_recall(x, y, seed=seed)
    return {"LSH precision": found.precision.value, "LSH recall": found.recall.value}


def _places(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    found = neighbourhood(x, y)
    reached = rarefied_coverage(found.counts(), len(y), min(len(x), len(y)))
    return {"log realism": float(found.log_realism.mean()), "rarefied coverage": float(reached.mean())}


def _support(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    found = support(x, y)
    return {"support precision": found.precision.value, "support coverage": found.coverage.value}
