"""The record of samples that were judged: metrics, what was found beside them, who looked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.store import jsonable
from niwaki.data import Dataset
from niwaki.evaluation import Evaluation
from niwaki.evaluation import evaluate as judge
from niwaki.workflow.findings import findings, fitness
from niwaki.workflow.reporter import Reporter

__all__ = ["extractor_records", "judged", "judged_record"]


def judged(
    samples: np.ndarray,
    labels: np.ndarray | None,
    dataset: Dataset,
    extractors: Sequence[Any],
    *,
    metrics: Sequence[str],
    seed: int,
    name: str,
) -> tuple[Evaluation, dict[str, Any]]:
    """The evaluation of samples, and what else was found, each part under `name`: `clusters[name]` …"""
    evaluation = judge(samples, labels, dataset, extractors, metrics=metrics, seed=seed)
    parts = findings(samples, labels, evaluation, dataset, extractors, seed=seed)
    return evaluation, {part: {name: found} for part, found in parts.items()}


def judged_record(
    samples: np.ndarray,
    labels: np.ndarray | None,
    dataset: Dataset,
    extractors: Sequence[Any],
    *,
    metrics: Sequence[str],
    seed: int,
    name: str,
    cache: Path | None,
    reporter: Reporter,
) -> dict[str, Any]:
    """All of it, as a run's `evaluation.json` has it: the metrics under `name`, `extractors` and their
    `fitness` (from `cache` where it is known), `n`, `seed`."""
    evaluation, found = judged(
        samples, labels, dataset, extractors, metrics=metrics, seed=seed, name=name
    )  # fmt: skip
    return {
        "n": evaluation.n,
        "seed": seed,
        "extractors": extractor_records(extractors),
        "fitness": fitness(dataset, extractors, cache=cache, reporter=reporter),
        name: jsonable(evaluation),
        **found,
    }


def extractor_records(extractors: Sequence[Any]) -> list[dict[str, Any]]:
    """What looked at the samples: name, fingerprint, width, a classifier's accuracy, an encoder's
    probe."""
    records = []
    for e in extractors:
        record = {"name": e.name, "fingerprint": e.fingerprint, "dim": e.dim}
        for known in ("accuracy", "probe"):
            if hasattr(e, known):
                record[known] = getattr(e, known)
        records.append(record)
    return records
