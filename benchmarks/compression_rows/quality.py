"""What a row's samples are worth beside the uncompressed model's of the same noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from compression_rows.subject import Subject
from compression_rows.timing import BATCHES
from compression_rows.tokens import tokens_judged
from niwaki.core.store import jsonable
from niwaki.evaluation import compare, frechet_distance, manifold
from niwaki.evaluation.statistics.samples import split_features
from niwaki.workflow.margins import keep_margins, kept_margins
from niwaki_runtime.bundle import Bundle

__all__ = ["distances", "images_judged", "judged"]


def judged(subject: Subject, found: Bundle) -> dict[str, Any]:
    """`fidelity` and `diversity`, each with a `verdict`, and the figures that the table shows."""
    if subject.tokens:
        return tokens_judged(subject, found)
    after = found.sample(subject.n, seed=subject.seed, condition=subject.asked[0], batch=max(BATCHES))
    return images_judged(subject, after)


def images_judged(subject: Subject, after: np.ndarray) -> dict[str, Any]:
    """Paired verdicts, and Fréchet distance, precision and coverage against the test split.

    The distances are in the features of the first extractor (the classifier, where there are labels).
    """
    labels = subject.asked[1]
    kept: Path = subject.directory / "margins.json"
    comparison = compare(
        subject.before,
        after,
        subject.dataset,
        subject.extractors,
        labels=labels,
        seed=subject.seed,
        calibration=kept_margins(kept),
    )
    keep_margins(kept, comparison.calibration)
    return {
        "verdict": {
            axis: jsonable(getattr(comparison, axis).to_json()) for axis in ("fidelity", "diversity")
        },
        **distances(subject, after),
        "accuracy": jsonable(comparison.accuracy),
        "signature": comparison.signature,
    }


def distances(subject: Subject, samples: np.ndarray) -> dict[str, Any]:
    """Fréchet distance, precision and coverage of samples, each with its interval."""
    extractor = subject.extractors[0]
    real, made = split_features(extractor, subject.dataset, "test"), extractor(samples)
    near = manifold(real, made)
    results = {
        "frechet": frechet_distance(real, made),
        "precision": near.precision,
        "coverage": near.coverage,
    }
    return {name: result.to_json() for name, result in results.items()}
