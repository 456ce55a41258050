"""Before against after: what changed, on each axis a verdict, and which samples and modes paid for it.

Sample j of `after` was made from the noise of sample j of `before`; the pairing takes most of the chance out
of the difference. Statistics of several extractors are averaged before the test: no extractor is picked
afterwards, and there is one interval per axis. The margin is measured on the same average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from niwaki.contract import CallError, nearest
from niwaki.data import Dataset
from niwaki.evaluation.accuracy import paired_accuracy
from niwaki.evaluation.arrays import features, pair
from niwaki.evaluation.damage import Damage, damage
from niwaki.evaluation.neighbourhood import Neighbourhood, neighbourhood, reach
from niwaki.evaluation.paired import closeness_change, reach_change
from niwaki.evaluation.planted import drop_slope, find_modes, ruin
from niwaki.evaluation.result import signature
from niwaki.evaluation.samples import check_labels, check_samples, split_features
from niwaki.evaluation.sweep import Pairs
from niwaki.evaluation.verdict import Axis, Verdict, decide, holm
from niwaki.features import Extractor

__all__ = ["Comparison", "compare"]

K = 5
SHARE = 0.05
"""Damage that a margin allows: as if this share of the samples were ruined, or never made."""
MODES = 20
SWAPS = 999
MOST_REAL = 2000
MOST_TRAIN = 4096

FIDELITY = Axis(
    "fidelity",
    "closeness: mean log ratio of a real neighbour's radius to the distance from it",
    "samples moved closer to the real ones",
    "samples moved away from the real ones",
    f"blurring {SHARE:.0%} of the samples beyond recognition would cost",
)
DIVERSITY = Axis(
    "diversity",
    "reach: share of real samples among the nearest of a generated one",
    "the share of real samples that are reached rose",
    "the share of real samples that are reached fell",
    f"never making the modes of {SHARE:.0%} of the samples would cost",
)


@dataclass(frozen=True)
class Comparison:
    """The two verdicts and their particulars.

    damage:    of each pair, in features `(n,)` float64: 1 is as different as two neighbouring real samples
               are
    lost:      real samples (positions in the test split) whose chance to be reached fell most, with the fall
    per_class: reach of each class before and after, and how well the classifier recognises it
    accuracy:  share recognised as the asked class, before and after; empty without labels or classifier
    """

    fidelity: Verdict
    diversity: Verdict
    damage: np.ndarray = field(repr=False, compare=False)
    pairs: Damage = field(repr=False, compare=False)
    lost: list[dict[str, float]] = field(repr=False)
    per_class: dict[str, dict[str, float]] = field(repr=False)
    accuracy: dict[str, Any]
    n: int
    seed: int
    signature: str

    def to_json(self) -> dict[str, Any]:
        return {
            "fidelity": self.fidelity.to_json(),
            "diversity": self.diversity.to_json(),
            "damage": self.pairs.to_json(),
            "lost": self.lost,
            "per_class": self.per_class,
            "accuracy": self.accuracy,
            "n": self.n,
            "seed": self.seed,
            "signature": self.signature,
        }


@dataclass(frozen=True)
class _View:
    """What one extractor sees."""

    name: str
    before: Neighbourhood
    after: Neighbourhood
    features: tuple[np.ndarray, np.ndarray, float]
    margins: dict[str, float]


def compare(
    before: Any,
    after: Any,
    dataset: Dataset,
    extractors: Sequence[Extractor],
    *,
    labels: Any = None,
    seed: int = 0,
    margins: Mapping[str, float] | None = None,
) -> Comparison:
    """Paired verdicts on fidelity and on diversity, against the test split; margins from the validation
    split.

    before, after: samples (n, *shape) of the same seeds, row by row, in the spec's range; n ≥ 50
    labels:        what each pair was asked to be `(n,)`
    margins:       `fidelity` and `diversity`, to use instead of the calibrated ones
    Raises CallError for sets of different sizes, another shape, NaN, unknown margins.
    """
    spec = dataset.spec
    before, after = check_samples(before, spec, "before"), check_samples(after, spec, "after")
    if len(before) != len(after):
        raise CallError(
            f"{len(before)} samples before and {len(after)} after cannot be paired; make as many of each"
        )
    if not extractors:
        raise CallError("a comparison needs at least one extractor")
    given = _given(margins)
    n = len(before)
    labels = check_labels(labels, n, spec)
    rng = np.random.default_rng([seed, 0x7061])
    chosen = _chosen(len(dataset.test), n, rng)
    modes: np.ndarray | None = None
    views = []
    for extractor in extractors:
        of_before, of_after = extractor(before), extractor(after)
        reference = _reference(extractor, dataset, of_before, len(chosen), seed)
        if modes is None:  # the same planted loss for every extractor
            modes = find_modes(_first(extractor, dataset, "train", MOST_TRAIN), of_before, MODES, seed)
        calibrated = _margins(extractor, reference, before, of_before, modes, dataset, seed)
        real = split_features(extractor, dataset, "test")[chosen]
        places = neighbourhood(real, of_before, K), neighbourhood(real, of_after, K)
        unit = float(np.median(_own_distance(real)))
        views.append(_View(extractor.name, *places, (of_before, of_after, unit), calibrated))
    margin = {
        a: given.get(a, float(np.mean([v.margins[a] for v in views]))) for a in ("fidelity", "diversity")
    }
    text = signature(
        "paired", k=K, share=SHARE, real=len(chosen), pairs=n, seed=seed, swaps=SWAPS,
        features="+".join(f"{e.name}@{e.fingerprint[:8]}" for e in extractors), data=dataset.fingerprint[:12],
    )  # fmt: skip
    names = spec.class_names or tuple(map(str, range(spec.classes)))
    classes = None if dataset.test.y is None else dataset.test.y.cpu().numpy()[chosen]
    fall, per_class, worst = _falls(views, len(chosen), n, classes, names)
    fidelity, diversity = _verdicts(views, n, len(chosen), margin, rng, text, worst)
    pairs = damage(before, after, [v.features for v in views], spec, labels)
    order = np.argsort(-fall, kind="stable")[:32]
    return Comparison(
        fidelity,
        diversity,
        damage=pairs.feature,
        pairs=pairs,
        lost=[{"test_index": int(chosen[i]), "fall": float(fall[i])} for i in order if fall[i] > 0],
        per_class=per_class,
        accuracy=paired_accuracy(extractors, [v.features for v in views], labels),
        n=n,
        seed=seed,
        signature=text,
    )


def _verdicts(
    views: list[_View],
    n: int,
    real: int,
    margin: Mapping[str, float],
    rng: np.random.Generator,
    text: str,
    worst: str,
) -> tuple[Verdict, Verdict]:
    swaps = rng.integers(0, 2, (SWAPS, n), dtype=np.int8).astype(bool)
    places = [(v.before, v.after) for v in views]
    moved, reached = closeness_change(places, swaps), reach_change(places, swaps, real)
    adjusted = holm([moved.p_value, reached.p_value])
    names = [v.name for v in views]
    return (
        decide(FIDELITY, moved, margin["fidelity"], n, adjusted[0], names, f"{text}|axis:fidelity"),
        decide(
            DIVERSITY, reached, margin["diversity"], n, adjusted[1], names, f"{text}|axis:diversity", worst
        ),
    )


def _margins(
    extractor: Extractor,
    reference: np.ndarray,
    before: np.ndarray,
    of_before: np.ndarray,
    modes: np.ndarray,
    dataset: Dataset,
    seed: int,
) -> dict[str, float]:
    """What the planted damage costs, per axis, among real samples that are not of the test split."""
    rng = np.random.default_rng([seed, 0x6D61])
    some = rng.permutation(len(before))[:500]
    whole = neighbourhood(reference, of_before, K)
    clean = whole.closeness[some]
    ruined = neighbourhood(reference, extractor(ruin(before[some], dataset.spec, rng)), K).closeness
    return {
        "fidelity": SHARE * max(0.0, float((clean - ruined).mean())),
        "diversity": SHARE * max(0.0, drop_slope(whole, modes, len(reference))),
    }


def _reference(
    extractor: Extractor, dataset: Dataset, of_before: np.ndarray, size: int, seed: int
) -> np.ndarray:
    """Real features to calibrate among, as many as serve of the test split: validation, filled up from train.

    Training samples that a generated one copies are left out: a model that knows its training set by heart
    would look closer to it than it is to anything else, and widen its own margin.
    """
    validation = _first(extractor, dataset, "validation", size)
    if len(validation) == size:
        return validation
    train = _first(extractor, dataset, "train", MOST_TRAIN)
    limit = np.quantile(_nearest(validation, train), 0.01)
    order = np.random.default_rng([seed, 0x7661]).permutation(len(train))
    order = order[_nearest(train, of_before)[order] >= limit]
    filled = np.concatenate([validation, train[order[: size - len(validation)]]])
    if len(filled) <= 4 * K:
        raise CallError(
            f"only {len(filled)} real samples are left to measure margins on; give margins instead"
        )
    return filled


def _first(extractor: Extractor, dataset: Dataset, split: str, most: int) -> np.ndarray:
    """Features of the first samples of a split (splits come shuffled)."""
    if len(dataset.split(split)) <= most:
        return split_features(extractor, dataset, split)
    return split_features(extractor, dataset, split, np.arange(most))


def _chosen(real: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Which test samples serve: at most half as many as there are pairs, so that a draw of as many can be
    repeated."""
    size = min(real, n // 2, MOST_REAL)
    if size <= 2 * K:
        raise CallError(
            f"{real} test samples and {n} pairs are too few for a verdict; at least {4 * K + 2} pairs"
        )
    return np.sort(rng.permutation(real)[:size])


def _nearest(of: np.ndarray, among: np.ndarray) -> np.ndarray:
    return Pairs(*pair(of, among)).nearest(1).d2[:, 0].sqrt().cpu().numpy()


def _own_distance(real: np.ndarray) -> np.ndarray:
    return Pairs(features(real, "real")).nearest(1).d2[:, 0].sqrt().cpu().numpy()


def _falls(
    views: list[_View], m: int, n: int, classes: np.ndarray | None, names: Sequence[str]
) -> tuple[np.ndarray, dict[str, dict[str, float]], str]:
    """How much the chance to be reached fell for each real sample, for each class, and a sentence on the
    worst class."""
    first = np.mean([reach(v.before.counts(), n, m) for v in views], axis=0)
    second = np.mean([reach(v.after.counts(), n, m) for v in views], axis=0)
    per_class: dict[str, dict[str, float]] = {}
    if classes is not None and names:
        for c in np.unique(classes):
            of = classes == c
            per_class[names[c]] = {"before": float(first[of].mean()), "after": float(second[of].mean())}
    worst = ""
    if per_class:
        name, record = max(per_class.items(), key=lambda item: item[1]["before"] - item[1]["after"])
        if record["before"] - record["after"] > 0.1:
            worst = (
                f"The class '{name}' lost most: its reach fell from {record['before']:.2f} "
                f"to {record['after']:.2f}."
            )
    return first - second, per_class, worst


def _given(margins: Mapping[str, float] | None) -> dict[str, float]:
    for name, value in (margins or {}).items():
        if name not in ("fidelity", "diversity"):
            raise CallError(
                f"there is no axis '{name}' to set a margin for; {nearest(name, ('fidelity', 'diversity'))}"
            )
        if not value > 0:
            raise CallError(f"the margin of {name} must be above 0, not {value}")
    return dict(margins or {})
