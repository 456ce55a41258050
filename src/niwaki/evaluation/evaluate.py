"""Generated samples against the test split, every number beside what the training split scores at the same
size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import Dataset
from niwaki.evaluation.feature_sets import FeatureSets, K
from niwaki.evaluation.measures import ALL, BY_JUDGES, DEFAULT, axes, check_metrics, measure, measures
from niwaki.evaluation.memorization.copies import Copies, find_copies
from niwaki.evaluation.metrics.accuracy import find_classifier, recognised
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.evaluation.sample_measures import SAMPLE_MEASURES
from niwaki.evaluation.sample_sets import SampleSets
from niwaki.evaluation.statistics.result import Result, signature, wilson
from niwaki.evaluation.statistics.samples import (
    check_labels,
    check_samples,
    drawn_alike,
    split_features,
    value_widths,
)
from niwaki.features import Classifier, Extractor

__all__ = ["Evaluation", "evaluate"]

PIXELS = "pixels"
"""Where metrics that look at samples and not at features are filed."""
_ANY = "any features"
"""Where metrics are filed that no features allow."""


@dataclass(frozen=True)
class Evaluation:
    """What a model can do.

    metrics:   by extractor and metric; each floor is the training split's value at the same size, but for
               metrics of memory, whose floor is that of real samples the model has not seen
    spread:    Fréchet distance by each member of an ensemble of extractors, by extractor
    per_class: by class name: test and generated samples, coverage by extractor and of the training split,
               share recognised as asked
    copies:    nearest training neighbours, in the first extractor
    n:         generated samples that were judged (at most as many as the training split has)
    left_out:  by extractor and metric: why it says nothing there
    """

    metrics: dict[str, dict[str, Result]]
    spread: dict[str, list[float]]
    per_class: dict[str, dict[str, Any]]
    copies: Copies
    extractors: list[dict[str, Any]]
    split: str
    n: int
    seed: int
    signature: str
    sizes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Metrics under their extractor's name, as the report and the command line read them."""
        first = next(iter(self.metrics))
        out: dict[str, Any] = {
            name: {metric: result.to_json() for metric, result in found.items()}
            for name, found in self.metrics.items()
        }
        out["reference"] = {
            name: {metric: r.floor for metric, r in found.items()} for name, found in self.metrics.items()
        }
        if self.per_class:
            out["coverage_per_class"] = {c: r["coverage"][first] for c, r in self.per_class.items()}
            out["classes"] = [{"name": c, **r} for c, r in self.per_class.items()]
        out["copies"] = self.copies.to_json()
        out |= {
            "axes": axes(dict.fromkeys(m for found in self.metrics.values() for m in found)),
            "left_out": self.left_out,
            "spread": {"frechet_by_member": self.spread},
            "judges": self.extractors,
            "split": self.split,
            "n": self.n,
            "seed": self.seed,
            "sizes": self.sizes,
            "signature": self.signature,
        }
        return out


def evaluate(
    samples: Any,
    labels: Any,
    dataset: Dataset,
    extractors: Sequence[Extractor],
    *,
    metrics: Sequence[str] = DEFAULT,
    seed: int = 0,
    split: str = "test",
    cache: Path | None = None,
) -> Evaluation:
    """Judge generated samples.

    samples: `(n, *shape)` float32 in the spec's range, n ≥ 50
    labels:  the class that each was asked to be `(n,)`, or None
    metrics: by name, from `measures()`; `("all",)` are all that the data and the extractors allow
    split:   real samples to judge by (`validation` while searching)
    seed:    which training samples are the reference
    cache:   where what a metric trains is kept
    If there are more samples than training samples, the first as many are judged: all is compared at equal n.
    Samples whose order means something are to be drawn before (`drawn_evenly`).
    A metric that cannot be had (it needs a classifier or images, the features do not allow it) is left out
    with its reason, and blocks no other.
    Raises CallError for another shape, too few samples, NaN, a wrong label, no extractor, an unknown metric,
    and where nothing that was asked for can be measured.
    """
    if not extractors:
        raise CallError("an evaluation needs at least one extractor")
    spec, real_split, place = dataset.spec, dataset.split(split), find_classifier(extractors)
    names, impossible = _allowed(metrics, place is not None, spec)
    samples = check_samples(samples, spec, "generated")
    labels = check_labels(labels, len(samples), spec)
    n = min(len(samples), len(dataset.train))
    samples, labels = samples[:n], None if labels is None else labels[:n]
    order = drawn_alike(dataset, labels, n, seed)
    looks = [_look(e, samples, dataset, split, order, names, seed) for e in extractors]
    found = {e.name: look.metrics for e, look in zip(extractors, looks, strict=True)} | {PIXELS: {}}
    left_out = {e.name: look.left_out for e, look in zip(extractors, looks, strict=True) if look.left_out}
    if impossible:
        left_out[_ANY] = impossible
    sets = SampleSets(samples, labels, dataset, order, extractors, seed, cache, split)
    for row in SAMPLE_MEASURES:
        asked = [name for name in row.kinds if name in names]
        try:
            results = row.compute(sets) if asked else {}
        except CallError as error:
            left_out.setdefault(PIXELS, {}).update(dict.fromkeys(asked, str(error)))
        else:
            found[PIXELS].update({name: results[name] for name in asked})
    if not found[PIXELS]:
        del found[PIXELS]
    if not any(found.values()):
        reasons = dict.fromkeys(why for by_metric in left_out.values() for why in by_metric.values())
        raise CallError(f"nothing that was asked for can be measured: {'; '.join(reasons)}")
    predicted = None
    if place is not None:
        classifier = extractors[place]
        assert isinstance(classifier, Classifier)
        predicted = classifier.probabilities_of(looks[place].generated).argmax(1)
        if labels is not None:
            result = recognised(classifier, looks[place].generated, labels, split, len(real_split))
            found[classifier.name]["recognised"] = result
    text = signature(
        "evaluation", k=K, split=split, n=n, seed=seed, data=dataset.fingerprint[:12],
        features="+".join(f"{e.name}@{e.fingerprint[:8]}" for e in extractors),
    )  # fmt: skip
    return Evaluation(
        found,
        {e.name: look.spread for e, look in zip(extractors, looks, strict=True) if look.spread},
        _per_class(dataset, split, extractors, looks, labels, predicted),
        find_copies(
            split_features(extractors[0], dataset, "train"),
            looks[0].real,
            looks[0].generated,
            train_samples=dataset.train.values().cpu().numpy(),
            generated_samples=samples,
            span=value_widths(spec, samples).reshape(-1),
            levels=spec.levels,
            name=f"{extractors[0].name}@{extractors[0].fingerprint[:8]}",
        ),
        [_judge(e) for e in extractors],
        split,
        n,
        seed,
        text,
        {"generated": n, "real": len(real_split), "train": len(dataset.train)},
        left_out,
    )


def _allowed(
    metrics: Sequence[str], classifier: bool, spec: DataSpec
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The metrics that are asked for and can be had, and why the others cannot; of `all` those that need
    nothing that is not there. Raises CallError where none is left."""
    names, missing = check_metrics(metrics), dict(BY_JUDGES)
    if not classifier:
        missing["inception_score"] = "needs the features 'classifier', and so labelled data"
    for row in SAMPLE_MEASURES:
        if reason := row.lacks(spec, classifier):
            missing |= dict.fromkeys(row.kinds, reason)
    if names == (ALL,):
        return tuple(name for name in measures() if name not in missing), {}
    impossible = {name: f"it {missing[name]}" for name in names if name in missing}
    if len(impossible) == len(names):
        raise CallError(f"the metric '{names[0]}' {missing[names[0]]}")
    return tuple(name for name in names if name not in missing), impossible


@dataclass(frozen=True)
class _Look:
    """What one extractor sees of the generated, the real and the training samples."""

    generated: np.ndarray
    real: np.ndarray
    metrics: dict[str, Result]
    spread: list[float]
    covered: np.ndarray | None
    covered_by_train: np.ndarray | None
    left_out: dict[str, str]


def _look(
    extractor: Extractor,
    samples: np.ndarray,
    dataset: Dataset,
    split: str,
    order: np.ndarray,
    names: Sequence[str],
    seed: int,
) -> _Look:
    generated = extractor(samples)
    real = split_features(extractor, dataset, split)
    reference = split_features(extractor, dataset, "train", order)
    sets = FeatureSets(real, generated, reference, split_features(extractor, dataset, "train"), seed)
    if isinstance(extractor, Classifier):
        of = extractor.probabilities_of
        sets = replace(sets, probabilities=of(generated), of_reference=of(reference))
    # coverage is what the classes are told by
    out = measure(sets, ("coverage", *names), f"{extractor.name}@{extractor.fingerprint[:8]}")
    asked = {name for given in names for name in (given, f"{given}_gap")}
    metrics = {name: result for name, result in out.found.items() if name in asked}
    parts = getattr(extractor, "parts", ())
    left_out = {name: why for name, why in out.left_out.items() if name in names}
    spread = _spread(real, generated, parts) if len(parts) > 1 else []
    covered = [of["coverage"].per_sample if "coverage" in of else None for of in (out.found, out.ideal)]
    return _Look(generated, real, metrics, spread, covered[0], covered[1], left_out)


def _spread(real: np.ndarray, generated: np.ndarray, parts: Sequence[slice]) -> list[float]:
    """The distance in each member; [] where one of them has none."""
    try:
        return [frechet_distance(real[:, p], generated[:, p]).value for p in parts]
    except CallError:
        return []


def _judge(extractor: Extractor) -> dict[str, Any]:
    of: dict[str, Any] = {"name": extractor.name, "fingerprint": extractor.fingerprint, "dim": extractor.dim}
    return {**of, "accuracy": extractor.accuracy} if isinstance(extractor, Classifier) else of


def _per_class(
    dataset: Dataset,
    split: str,
    extractors: Sequence[Extractor],
    looks: Sequence[_Look],
    labels: np.ndarray | None,
    predicted: np.ndarray | None,
) -> dict[str, dict[str, Any]]:
    """Coverage of each class of the real samples; {} for data without classes, and where no coverage can be
    had."""
    y = dataset.split(split).y
    pairs = [
        (e.name, look.covered, look.covered_by_train)
        for e, look in zip(extractors, looks, strict=True)
        if look.covered is not None and look.covered_by_train is not None
    ]
    if y is None or not dataset.spec.classes or not pairs or pairs[0][0] != extractors[0].name:
        return {}
    classes = y.cpu().numpy()
    names = dataset.spec.class_names or tuple(map(str, range(dataset.spec.classes)))
    made = labels if labels is not None else predicted
    out: dict[str, dict[str, Any]] = {}
    for c in np.unique(classes):
        real = classes == c
        covered = pairs[0][1][real]
        record: dict[str, Any] = {
            "class": int(c),
            "real": int(real.sum()),
            "generated": None if made is None else int((made == c).sum()),
            "coverage": {name: float(by_made[real].mean()) for name, by_made, _ in pairs},
            "interval": list(wilson(covered.sum(), len(covered))),
            "train": {name: float(by_train[real].mean()) for name, _, by_train in pairs},
            "recognised": None,
        }
        if labels is not None and predicted is not None and (labels == c).any():
            record["recognised"] = float((predicted[labels == c] == c).mean())
        out[names[c]] = record
    return out
