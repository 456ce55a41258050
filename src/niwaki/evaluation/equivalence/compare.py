"""Before against after: what changed, on each axis a verdict, and which samples and modes paid for it.

Paired, sample j of `after` was made from the noise of sample j of `before`; the pairing takes most of the
chance out of the difference. Unpaired, the two sets share no noise and may differ in size.
Statistics of several extractors are averaged before the test: no extractor is picked afterwards, and there is
one interval per axis. The margin is measured on the same average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from niwaki.core.contract import CallError
from niwaki.data import Dataset
from niwaki.evaluation.equivalence.calibration import Calibration, calibrated, calibration_key
from niwaki.evaluation.equivalence.damage import Damage, damage
from niwaki.evaluation.equivalence.margins import (
    AXES,
    DIVERSITY,
    FIDELITY,
    SHARE,
    K,
    Margin,
    given_margins,
    real_size,
)
from niwaki.evaluation.equivalence.paired import log_realism_change, rarefied_coverage_change
from niwaki.evaluation.equivalence.shared_damage import SharedDamage, damage_in_common
from niwaki.evaluation.equivalence.unpaired import (
    accuracy_difference,
    draws,
    log_realism_difference,
    rarefied_coverage_difference,
)
from niwaki.evaluation.equivalence.verdict import Verdict, decide
from niwaki.evaluation.metrics.accuracy import find_classifier, paired_accuracy
from niwaki.evaluation.pairwise.neighbourhood import Neighbourhood, neighbourhoods, rarefied_coverage
from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.statistics.arrays import features
from niwaki.evaluation.statistics.result import signature
from niwaki.evaluation.statistics.samples import check_labels, check_samples, split_features
from niwaki.evaluation.statistics.shares import holm
from niwaki.features import Classifier, Extractor

__all__ = ["Comparison", "compare"]

SWAPS = 999


@dataclass(frozen=True)
class Comparison:
    """The two verdicts and their particulars.

    damage:    of each pair, in features `(n,)` float64: 1 is as different as two neighbouring real samples
               are; empty where nothing is paired
    pairs:     the same with pixels and ranking; None where nothing is paired
    lost:      real samples (positions in the test split) whose chance to be reached fell most, with the fall
    per_class: rarefied coverage of each class before and after
    accuracy:  share recognised as the asked class, before and after; empty without labels or classifier
    n, n_after: samples before and after
    calibration: the margins by axis and what they were measured on
    common:    what the most damaged pairs have in common; None where nothing is paired
    """

    fidelity: Verdict
    diversity: Verdict
    damage: np.ndarray = field(repr=False, compare=False)
    pairs: Damage | None = field(repr=False, compare=False)
    lost: list[dict[str, float]] = field(repr=False)
    per_class: dict[str, dict[str, float]] = field(repr=False)
    accuracy: dict[str, Any]
    n: int
    seed: int
    signature: str
    n_after: int = 0
    paired: bool = True
    common: SharedDamage | None = None
    calibration: Calibration | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "fidelity": self.fidelity.to_json(),
            "diversity": self.diversity.to_json(),
            "damage": None if self.pairs is None else self.pairs.to_json(),
            "common": None if self.common is None else self.common.to_json(),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "lost": self.lost,
            "per_class": self.per_class,
            "accuracy": self.accuracy,
            "n": self.n,
            "n_after": self.n_after,
            "paired": self.paired,
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


def compare(
    before: Any,
    after: Any,
    dataset: Dataset,
    extractors: Sequence[Extractor],
    *,
    labels: Any = None,
    seed: int = 0,
    margins: Mapping[str, float] | None = None,
    calibration: Calibration | None = None,
    paired: bool = True,
    labels_after: Any = None,
    latents: Any = None,
) -> Comparison:
    """Verdicts on fidelity and on diversity, against the test split; margins from the validation split.

    before, after: samples (n, *shape), (n', *shape) in the spec's range; n, n' ≥ 50
    labels:        what each sample before was asked to be `(n,)`
    margins:       `fidelity` and `diversity`, to use instead of the calibrated ones
    calibration:   margins that `calibrated` measured for these samples before; of others they are measured
                   anew
    paired:        row j of both was made from the same noise, so that n = n'; otherwise they share none
    labels_after:  unpaired: what each sample after was asked to be `(n',)`
    latents:       paired: the noise of each pair `(n, …)`, to see which region of it is damaged
    Raises CallError for pairs of different numbers, another shape, NaN, unknown margins.
    """
    spec = dataset.spec
    before, after = check_samples(before, spec, "before"), check_samples(after, spec, "after")
    if not extractors:
        raise CallError("a comparison needs at least one extractor")
    _check_pairing(before, after, paired, labels_after, latents)
    given = given_margins(margins)
    n, least = len(before), min(len(before), len(after))
    labels, labels_after = check_labels(labels, n, spec), check_labels(labels_after, len(after), spec)
    rng = np.random.default_rng([seed, 0x7061])
    size = real_size(len(dataset.test), least)
    chosen = np.sort(rng.permutation(len(dataset.test))[:size])
    of_before, of_after = [e(before) for e in extractors], [e(after) for e in extractors]
    key = calibration_key(before, dataset, extractors, seed=seed, size=size)
    if calibration is None or calibration.key != key:
        calibration = calibrated(before, dataset, extractors, seed=seed, size=size, of_before=of_before)
    margin = {**calibration.margins, **given}
    views = []
    for extractor, first, second in zip(extractors, of_before, of_after, strict=True):
        real = split_features(extractor, dataset, "test")[chosen]
        places = neighbourhoods(real, [first, second], K)
        unit = float(np.median(_own_distance(real)))
        views.append(_View(extractor.name, places[0], places[1], (first, second, unit)))
    sizes = {"pairs": n} if paired else {"before": n, "after": len(after)}
    text = signature(
        "paired" if paired else "unpaired", k=K, share=SHARE, real=len(chosen), **sizes, seed=seed,
        swaps=SWAPS, features="+".join(f"{e.name}@{e.fingerprint[:8]}" for e in extractors),
        data=dataset.fingerprint[:12], margins=key[:8],
    )  # fmt: skip
    names = spec.class_names or tuple(map(str, range(spec.classes)))
    classes = None if dataset.test.y is None else dataset.test.y.cpu().numpy()[chosen]
    fall, per_class, worst = _falls(views, len(chosen), classes, names)
    same = np.array_equal(before, after)
    fidelity, diversity = _verdicts(
        views, len(chosen), margin, rng, text, worst, paired=paired, same=same,
        stored=[] if not calibration.stored else [a for a in AXES if a not in given],
    )  # fmt: skip
    pairs = damage(before, after, [v.features for v in views], spec, labels) if paired else None
    order = np.argsort(-fall, kind="stable")[:32]
    return Comparison(
        fidelity,
        diversity,
        damage=np.zeros(0) if pairs is None else pairs.feature,
        pairs=pairs,
        lost=[{"test_index": int(chosen[i]), "fall": float(fall[i])} for i in order if fall[i] > 0],
        per_class=per_class,
        accuracy=_accuracy(extractors, views, labels, labels_after, paired),
        n=n,
        seed=seed,
        signature=text,
        n_after=len(after),
        paired=paired,
        common=None
        if pairs is None
        else damage_in_common(pairs.feature, labels=labels, names=names, latents=latents, seed=seed),
        calibration=calibration,
    )


def _check_pairing(
    before: np.ndarray, after: np.ndarray, paired: bool, labels_after: Any, latents: Any
) -> None:
    if paired and len(before) != len(after):
        raise CallError(
            f"{len(before)} samples before and {len(after)} after cannot be paired; "
            "make as many of each, or pass paired=False"
        )
    if paired and labels_after is not None:
        raise CallError("pairs share their labels: labels_after belongs to paired=False")
    if not paired and latents is not None:
        raise CallError("latents belong to pairs: without them no sample has a damage of its own")


def _verdicts(
    views: list[_View],
    real: int,
    margin: Mapping[str, Margin],
    rng: np.random.Generator,
    text: str,
    worst: str,
    *,
    paired: bool,
    same: bool,
    stored: Sequence[str],
) -> tuple[Verdict, Verdict]:
    places = [(v.before, v.after) for v in views]
    n, n_after = len(views[0].before.claims), len(views[0].after.claims)
    if paired:
        swaps = rng.integers(0, 2, (SWAPS, n), dtype=np.int8).astype(bool)
        changes = log_realism_change(places, swaps), rarefied_coverage_change(places, swaps, real)
    else:
        chosen = draws(n, n_after, SWAPS, rng)
        changes = log_realism_difference(places, chosen), rarefied_coverage_difference(places, chosen, real)
    adjusted = holm([c.p_value for c in changes])
    names = [v.name for v in views]
    fidelity, diversity = (
        decide(
            axis, change, margin[a].value, min(n, n_after), p, names, f"{text}|axis:{a}", also,
            noise=margin[a].noise, fewest=margin[a].fewest, real=real, identical=same, stored=a in stored,
        )
        for a, axis, change, p, also in zip(
            AXES, (FIDELITY, DIVERSITY), changes, adjusted, ("", worst), strict=True
        )
    )  # fmt: skip
    return fidelity, diversity


def _accuracy(
    extractors: Sequence[Extractor],
    views: list[_View],
    labels: np.ndarray | None,
    labels_after: np.ndarray | None,
    paired: bool,
) -> dict[str, Any]:
    if paired:
        return paired_accuracy(extractors, [v.features for v in views], labels)
    place = find_classifier(extractors)
    if place is None or labels is None or labels_after is None:
        return {}
    classifier, seen = extractors[place], views[place].features
    assert isinstance(classifier, Classifier)
    return accuracy_difference(classifier, (seen[0], labels), (seen[1], labels_after))


def _own_distance(real: np.ndarray) -> np.ndarray:
    return Pairs(features(real, "real")).nearest(1).d2[:, 0].sqrt().cpu().numpy()


def _falls(
    views: list[_View], m: int, classes: np.ndarray | None, names: Sequence[str]
) -> tuple[np.ndarray, dict[str, dict[str, float]], str]:
    """How much the chance to be reached fell for each real sample, for each class, and a sentence on the
    worst class."""
    first = np.mean([rarefied_coverage(v.before.counts(), len(v.before.claims), m) for v in views], axis=0)
    second = np.mean([rarefied_coverage(v.after.counts(), len(v.after.claims), m) for v in views], axis=0)
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
                f"The class '{name}' lost most: its rarefied coverage fell from {record['before']:.2f} "
                f"to {record['after']:.2f}."
            )
    return first - second, per_class, worst
