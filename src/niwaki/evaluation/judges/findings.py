"""What an evaluation finds beside its numbers: lost modes, shifted attributes, memorised samples, and whether
the extractors are fit to judge at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.contract import CallError
from niwaki.core.store import hash_json, jsonable, kept_json
from niwaki.core.version import __version__
from niwaki.data import Dataset
from niwaki.evaluation.evaluate import Evaluation
from niwaki.evaluation.judges.lost_modes import lost_modes

__all__ = ["FINDINGS", "findings", "fitness"]

FINDINGS = ("clusters", "bias", "gate", "modes")
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
        "bias": lambda: _bias(samples, labels, dataset, extractors, evaluation.split, seed),
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
    labels: np.ndarray | None,
    dataset: Dataset,
    extractors: Sequence[Any],
    split: str,
    seed: int,
) -> dict[str, Any] | None:
    """The class as the classifier recognises it, on both sides, so that its errors are the same on both;
    without one the class that was asked for. Further attributes by a vote of the nearest training samples, on
    both sides too: how often that is right on the split is part of the record. `pairs` are two attributes at
    once: each may be as often as it should while their meetings are not."""
    from niwaki.evaluation.judges.recognising import Recogniser, crossed
    from niwaki.evaluation.metrics.bias import attribute_shift

    by = Recogniser(dataset, extractors)
    real, made = by.of_split(split), by.of_samples(samples)
    names: dict[str, Sequence[str]] = {name: by.names(name) for name in by.attributes}
    told = {name: {"by": by.means(name), "accuracy": by.accuracy(name, split)} for name in by.attributes}
    y = dataset.split(split).y
    if "class" not in real and labels is not None and y is not None:
        real["class"], made["class"] = y.cpu().numpy(), labels
        names["class"] = dataset.spec.class_names or tuple(map(str, range(dataset.spec.classes)))
        told["class"] = {"by": "what was asked for", "accuracy": None}
    if not real:
        return None
    found = {"recognised": told, **jsonable(attribute_shift(real, made, names=names, seed=seed))}
    pairs = crossed(by.attributes)
    if pairs:
        sides = [{pair: by.joint(side, pair) for pair in pairs} for side in (real, made)]
        joint = {pair: by.value_names(pair) for pair in pairs}
        found["pairs"] = jsonable(attribute_shift(*sides, names=joint, seed=seed))
    return found


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
