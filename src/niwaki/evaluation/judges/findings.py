"""What an evaluation finds beside its numbers: lost modes, shifted attributes, memorised samples, and whether
the extractors are fit to judge at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from niwaki.core.contract import CallError
from niwaki.core.store import hash_json, jsonable, kept_json
from niwaki.core.version import __version__
from niwaki.data import Dataset
from niwaki.evaluation.evaluate import Evaluation
from niwaki.evaluation.judges.lost_modes import lost_modes

__all__ = ["FINDINGS", "findings", "fitness"]

FINDINGS = ("clusters", "bias", "gate", "modes")
K = 5
"""Training neighbours that say which attribute a sample has."""
CLUSTERS, ENOUGH = 20, 25
"""At most so many clusters, each of so many samples on average: of a smaller one nothing would be certain."""


def findings(
    samples: np.ndarray,
    labels: np.ndarray | None,
    evaluation: Evaluation,
    dataset: Dataset,
    extractors: Sequence[Any],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Of the samples that were judged, in the first extractor's features, ready for JSON:

    clusters: which modes of the split that was judged by are made too rarely (`coverage_per_cluster`)
    bias:     shifts of class and attribute frequencies (`attribute_shift`); None where the data have neither
    gate:     whether the model may be released (`memorisation_gate`), and the scale of its distances: how
              far a real sample is from its nearest training sample (`usual`, the median)
    modes:    which clusters and classes get less than they should, and which samples show it (`lost_modes`)
    One that refuses these samples is `{"left_out": reason}`.
    """
    n, first = evaluation.n, extractors[0]
    samples, labels = samples[:n], None if labels is None else labels[:n]
    generated = first(samples)
    made = {
        "clusters": lambda: _clusters(generated, dataset, first, evaluation.split, seed),
        "bias": lambda: _bias(samples, generated, labels, dataset, extractors, evaluation.split, seed),
        "gate": lambda: _gate(evaluation, dataset, first),
    }
    found = {name: _or_reason(make) for name, make in made.items()}
    found["modes"] = _or_reason(lambda: lost_modes(generated, found["clusters"], evaluation, dataset, first))
    return found


def _or_reason(make: Any) -> Any:
    try:
        return make()
    except CallError as error:
        return {"left_out": str(error)}


def _clusters(
    generated: np.ndarray, dataset: Dataset, extractor: Any, split: str, seed: int
) -> dict[str, Any]:
    """The clusters' numbers without a signature each: one for all."""
    from niwaki.evaluation.metrics.clusters import coverage_per_cluster
    from niwaki.evaluation.statistics.samples import split_features

    y = dataset.split(split).y
    fewest = min(len(dataset.split(split)), len(generated))
    found = coverage_per_cluster(
        split_features(extractor, dataset, split),
        generated,
        clusters=max(2, min(CLUSTERS, fewest // ENOUGH)),
        seed=seed,
        fit=split_features(extractor, dataset, "train"),
        labels=None if y is None or not dataset.spec.classes else y.cpu().numpy(),
        names=dataset.spec.class_names or None,
    )
    out = jsonable(found)
    text = found.clusters[0].ratio.signature if found.clusters else ""
    for cluster in out["clusters"]:
        for part in ("ratio", "covered"):
            if cluster[part]:
                cluster[part].pop("signature")
    return {"features": extractor.name, "signature": text, **out}


def _bias(
    samples: np.ndarray,
    generated: np.ndarray,
    labels: np.ndarray | None,
    dataset: Dataset,
    extractors: Sequence[Any],
    split: str,
    seed: int,
) -> dict[str, Any] | None:
    """The class as the classifier recognises it, on both sides, so that its errors are the same on both;
    without one the class that was asked for. Further attributes by a vote of the nearest training samples, on
    both sides too: how often that is right on the split is part of the record."""
    from niwaki.evaluation.metrics.accuracy import find_classifier
    from niwaki.evaluation.metrics.bias import attribute_shift
    from niwaki.evaluation.statistics.samples import split_features

    real: dict[str, np.ndarray] = {}
    made: dict[str, np.ndarray] = {}
    names: dict[str, Sequence[str]] = {}
    told: dict[str, Any] = {}
    place = find_classifier(extractors)
    rows, spec = dataset.split(split), dataset.spec
    if place is not None:
        judge = extractors[place]
        of_real = split_features(judge, dataset, split)
        real["class"] = judge.probabilities_of(of_real).argmax(1)
        made["class"] = judge.probabilities_of(generated if place == 0 else judge(samples)).argmax(1)
        told["class"] = {"by": judge.name, "accuracy": judge.accuracy.get(split)}
    elif labels is not None and rows.y is not None:
        real["class"], made["class"] = rows.y.cpu().numpy(), labels
        told["class"] = {"by": "what was asked for", "accuracy": None}
    if "class" in real:
        names["class"] = spec.class_names or tuple(map(str, range(spec.classes)))
    for attribute, known in dataset.train.attributes.items():
        first = extractors[0]
        train = split_features(first, dataset, "train")
        of_real = split_features(first, dataset, split)
        real[attribute] = _vote(of_real, train, known)
        made[attribute] = _vote(generated, train, known)
        right = real[attribute] == rows.attributes[attribute].cpu().numpy()
        told[attribute] = {"by": f"{K} nearest training samples", "accuracy": float(right.mean())}
        if attribute in dataset.attribute_names:
            names[attribute] = dataset.attribute_names[attribute]
    if not real:
        return None
    return {"recognised": told, **jsonable(attribute_shift(real, made, names=names, seed=seed))}


def _vote(of: np.ndarray, train: np.ndarray, known: torch.Tensor) -> np.ndarray:
    """The commonest value among the nearest training samples, the smallest of equally common ones."""
    from niwaki.evaluation.pairwise.sweep import Pairs
    from niwaki.evaluation.statistics.arrays import pair

    near = Pairs(*pair(of, train)).nearest(K).index.cpu().numpy()
    values = known.cpu().numpy()[near]
    votes = np.zeros((len(of), int(known.max()) + 1), np.int64)
    for column in values.T:
        votes[np.arange(len(of)), column] += 1
    return votes.argmax(1)


def _gate(evaluation: Evaluation, dataset: Dataset, extractor: Any) -> dict[str, Any]:
    from niwaki.evaluation.extractor_checks.gate import memorisation_gate
    from niwaki.evaluation.pairwise.sweep import Pairs
    from niwaki.evaluation.statistics.arrays import pair
    from niwaki.evaluation.statistics.samples import split_features

    found: dict[str, Any] = jsonable(memorisation_gate(evaluation.copies))
    sides = (split_features(extractor, dataset, split) for split in (evaluation.split, "train"))
    apart = Pairs(*pair(*sides)).nearest(1).d2[:, 0].sqrt()
    return {**found, "usual": float(apart.median()), "features": extractor.name}


def fitness(
    dataset: Dataset,
    extractors: Sequence[Any],
    *,
    seed: int = 0,
    cache: Path | None = None,
    on_check: Callable[[str], None] = lambda name: None,
) -> dict[str, Mapping[str, Any]]:
    """By extractor, whether it passes the ladders on the validation split (`check_extractor`), from `cache`
    where that was found out before; `{"fit": None, "text": reason}` where the data allow no ladders.

    on_check: called with an extractor's name before it is put to the test
    """
    out: dict[str, Mapping[str, Any]] = {}
    for extractor in extractors:
        key = hash_json([__version__, extractor.fingerprint, dataset.fingerprint, seed])[:24]
        path = None if cache is None else cache / "fitness" / f"{extractor.name}-{key}.json"
        out[extractor.name] = kept_json(
            path,
            partial(_check, dataset, extractor, seed, on_check),
            lambda found: isinstance(found, dict) and "fit" in found,
        )
    return out


def _check(dataset: Dataset, extractor: Any, seed: int, on_check: Callable[[str], None]) -> dict[str, Any]:
    on_check(extractor.name)
    from niwaki.evaluation.extractor_checks.ladders import check_extractor

    try:
        found: dict[str, Any] = jsonable(check_extractor(extractor, dataset, seed=seed))
    except CallError as error:
        return {"fit": None, "text": f"{error}", "ladders": []}
    return found
