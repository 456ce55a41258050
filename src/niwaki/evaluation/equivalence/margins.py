"""Margins: the largest loss that counts as none, measured by planting known damage into the samples before.

A margin is an estimate itself. Where it is not above its own noise (a model trained too briefly makes samples
that ruining costs nothing), it allows nothing to be said, and the verdict says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, nearest
from niwaki.data import Dataset
from niwaki.evaluation.equivalence.paired import rarefied_coverage_change
from niwaki.evaluation.equivalence.planted import drop_sets, dropped, find_modes, ruin
from niwaki.evaluation.equivalence.verdict import Axis
from niwaki.evaluation.pairwise.neighbourhood import Neighbourhood, neighbourhoods, rarefied_coverage
from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import Z95
from niwaki.evaluation.statistics.samples import split_features
from niwaki.features import Extractor

__all__ = [
    "AXES",
    "DIVERSITY",
    "FIDELITY",
    "MOST_REAL",
    "MOST_TRAIN",
    "SHARE",
    "K",
    "Margin",
    "calibrate",
    "diversity_margin",
    "fidelity_margin",
    "first_features",
    "given_margins",
    "real_size",
]

AXES = ("fidelity", "diversity")
K = 5
SHARE = 0.05
"""Damage that a margin allows: as if this share of the samples were ruined, or never made."""
MOST_REAL = 2000
MOST_TRAIN = 4096
MOST_RUINED = 500
"""Samples that are ruined for the margin of fidelity."""
MODES = 20
CUTS = 6
"""Ways to cut the samples into modes: finer ones would cut modes into pieces, which cost less to lose."""
LEVEL = 0.01
"""Share of planted losses of modes that the margin of diversity lets pass as none. At 1 % of those among the
real samples it is measured on, some 3 % pass among others (docs/evaluation.md)."""
OF_A_MODE = 10
"""Real samples that a mode of the allowed damage must hold: with fewer, its loss is too often missed."""
LEAST = 1e-6

FIDELITY = Axis(
    "fidelity",
    "log realism: mean log ratio of a real neighbour's radius to the distance from it",
    "samples moved closer to the real ones",
    "samples moved away from the real ones",
    f"blurring {100 * SHARE:.0f} % of the samples beyond recognition would cost",
    "the samples before compression are no better than ruined ones",
)
DIVERSITY = Axis(
    "diversity",
    "rarefied coverage: share of real samples among the nearest of a generated one",
    "the share of real samples that are reached rose",
    "the share of real samples that are reached fell",
    f"never making whole modes with {100 * SHARE:.0f} % of the samples would cost",
    "leaving out whole modes of the samples before compression costs no diversity",
)


@dataclass(frozen=True)
class Margin:
    """A margin and the standard error of its calibration, 0 where the caller set it.

    fewest: samples before that a calibration needs, where there were fewer; else 0
    """

    value: float
    noise: float = 0.0
    fewest: int = 0

    @property
    def calibrated(self) -> bool:
        """Certainly above 0: a margin within its own noise decides nothing."""
        return self.value > Z95 * self.noise

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "noise": self.noise, "fewest": self.fewest}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Margin:
        return cls(float(record["value"]), float(record["noise"]), int(record["fewest"]))


def calibrate(
    extractors: Sequence[Extractor],
    before: np.ndarray,
    of_before: Sequence[np.ndarray],
    dataset: Dataset,
    size: int,
    seed: int,
) -> dict[str, Margin]:
    """Both margins, measured among `size` real samples that are not of the test split; the same damage and
    the same real samples for every extractor.

    before, of_before: samples, and their features in each extractor
    """
    reference = _reference(extractors, dataset, of_before, size, seed)
    rng = np.random.default_rng([seed, 0x6D61])
    some = rng.permutation(len(before))[:MOST_RUINED]
    bad = ruin(before[some], dataset.spec, rng)
    places, lost = [], []
    for extractor, real, seen in zip(extractors, reference, of_before, strict=True):
        whole, ruined = neighbourhoods(real, [seen, extractor(bad)], K)
        places.append(whole)
        lost.append(whole.log_realism[some] - ruined.log_realism)
    train = first_features(extractors[0], dataset, "train", MOST_TRAIN)
    cuts = [find_modes(train, of_before[0], MODES, seed + i) for i in range(CUTS)]
    return {
        "fidelity": fidelity_margin(np.mean(lost, axis=0)),
        "diversity": diversity_margin(places, cuts, len(reference[0]), seed),
    }


def fidelity_margin(lost: np.ndarray) -> Margin:
    """Of the log realism that each ruined sample lost `(some,)`, averaged over the extractors as the
    statistic is. Noise: the standard error of the mean."""
    error = float(lost.std(ddof=1)) / len(lost) ** 0.5
    return Margin(_above_rounding(SHARE * float(lost.mean())), SHARE * error)


def diversity_margin(
    places: Sequence[Neighbourhood], cuts: Sequence[np.ndarray], m: int, seed: int
) -> Margin:
    """The margin by which hardly any planted loss of modes would be called none.

    places: of the samples before among the real ones, as each extractor sees them
    cuts:   ways to cut them into modes: the mode of each `(n,)`
    m:      samples of which the rarefied coverage is taken

    Whole modes that hold about 5 % are never made, by each way to cut, and the verdict's own interval is
    taken of what that costs. The margin is the 1 % quantile of the upper ends, and at most the average cost.
    The average alone would not do: modes differ, and half of all losses would lie below it.
    Noise: that of the average cost, the largest of those of the ways to cut, in proportion. Where that cost
    is within 1.96 times its own noise there is no margin: upper ends lie above 0 even so. Nor is there one
    where so few real samples serve that a mode of 5 % has fewer than ten.
    """
    if SHARE * m < OF_A_MODE:
        return Margin(0.0, fewest=round(2 * OF_A_MODE / SHARE))
    found = [_planted_losses(places, modes, m, seed) for modes in cuts]
    found = [losses for losses in found if len(losses[0]) > 1]
    if not found:
        return Margin(0.0)
    cost, upper = (np.concatenate([f[i] for f in found]) for i in (0, 1))
    mean, noise = float(cost.mean()), max(f[2] for f in found)
    if mean <= Z95 * noise or mean <= LEAST:
        return Margin(0.0, noise)
    value = max(0.0, min(mean, float(np.quantile(upper, LEVEL))))
    return Margin(value, noise * value / mean)


def _planted_losses(
    places: Sequence[Neighbourhood], modes: np.ndarray, m: int, seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Of each set of modes that is never made: rarefied coverage lost, the upper end of its interval, both
    `(sets,)` and for 5 % of the samples; and the standard error of the mean loss: the
    delete-one jackknife over modes."""
    rng, none = np.random.default_rng([seed, 0x6472]), np.zeros((1, len(modes)), bool)
    names, index = np.unique(modes, return_inverse=True)
    whole = np.mean([rarefied_coverage(p.counts(), len(modes), m).mean() for p in places])
    used, cost, upper = [], [], []
    for gone in drop_sets(modes, SHARE, seed):
        keep = ~gone[index]
        left = int(keep.sum())
        if left < m:
            continue
        lost = whole - np.mean([rarefied_coverage(p.counts(keep), left, m).mean() for p in places])
        # The interval's width is that of as many samples; its middle is not: those made in the place of the
        # lost ones are doubles of others here, which by themselves cover less.
        after = dropped(modes, gone, rng)
        change = rarefied_coverage_change([(p, p.part(after)) for p in places], none, m)
        scale = SHARE / (1.0 - left / len(modes))
        used.append(gone)
        cost.append(scale * lost)
        upper.append(scale * (lost + change.interval()[1] - change.delta))
    each, of_set = np.array(cost), np.array(used).reshape(len(used), len(names))
    without = [each[~c].mean() for c in of_set.T if c.any() and not c.all()]
    noise = float(np.sqrt((len(without) - 1) * np.var(without))) if len(without) > 1 else 0.0
    return each, np.array(upper), noise


def _above_rounding(value: float) -> float:
    """0 for what only rounding leaves: flat pictures are blurred into themselves."""
    return value if value > LEAST else 0.0


def given_margins(margins: Mapping[str, float] | None) -> dict[str, Margin]:
    """The caller's. Raises CallError for an axis that there is not, and for a margin of 0 or less."""
    for name, value in (margins or {}).items():
        if name not in AXES:
            raise CallError(f"there is no axis '{name}' to set a margin for; {nearest(name, AXES)}")
        if not value > 0:
            raise CallError(f"the margin of {name} must be above 0, not {value}")
    return {name: Margin(float(value)) for name, value in (margins or {}).items()}


FEWEST_REAL, FEWEST_PAIRS = 4 * K + 1, 8 * K + 2
"""Test samples, and made ones, with which there can be a verdict on samples."""


def enough(test: int, validation: int, n: int) -> bool:
    """Whether margins can be measured and tested with so many samples."""
    size = min(test, n // 2, MOST_REAL)
    return size > 2 * K and (validation >= size or size > 4 * K)


def real_size(real: int, n: int) -> int:
    """How many of the test samples serve n pairs: at most half as many, so that a draw of as many can be
    repeated. Raises CallError for too few."""
    size = min(real, n // 2, MOST_REAL)
    if size <= 2 * K:
        few = f"{real} test samples" if real <= 2 * K else f"{n} made samples (evaluate.n)"
        raise CallError(
            f"{few} are too few for a verdict: at least {FEWEST_REAL} test samples and {FEWEST_PAIRS} made "
            "ones are needed"
        )
    return size


def first_features(extractor: Extractor, dataset: Dataset, split: str, most: int) -> np.ndarray:
    """Features of the first samples of a split (splits come shuffled)."""
    if len(dataset.split(split)) <= most:
        return split_features(extractor, dataset, split)
    return split_features(extractor, dataset, split, np.arange(most))


def _reference(
    extractors: Sequence[Extractor], dataset: Dataset, of_before: Sequence[np.ndarray], size: int, seed: int
) -> list[np.ndarray]:
    """Real features to calibrate among, by extractor, of as many samples as serve of the test split:
    validation, filled up from train.

    Training samples that a generated one copies are left out: a model that knows its training set by heart
    would look closer to it than it is to anything else, and widen its own margin.
    """
    validation = [first_features(e, dataset, "validation", size) for e in extractors]
    if len(validation[0]) == size:
        return validation
    train = [first_features(e, dataset, "train", MOST_TRAIN) for e in extractors]
    fresh = np.ones(len(train[0]), bool)
    for held, known, seen in zip(validation, train, of_before, strict=True):
        fresh &= _nearest(known, seen) >= np.quantile(_nearest(held, known), 0.01)
    order = np.random.default_rng([seed, 0x7661]).permutation(len(fresh))
    order = order[fresh[order]][: size - len(validation[0])]
    filled = [np.concatenate([held, known[order]]) for held, known in zip(validation, train, strict=True)]
    if size <= 4 * K:
        raise CallError(
            f"{size} test samples are too few for a verdict: {FEWEST_REAL} are needed, or as many validation "
            "samples as test samples (data.fractions)"
        )
    if len(filled[0]) <= 4 * K:
        raise CallError(
            f"{len(filled[0])} real samples are too few to measure on what a loss is: more than {4 * K} of "
            "the validation and training samples are needed that the model does not copy; give more data, or "
            "a larger share of validation (data.fractions)"
        )
    return filled


def _nearest(of: np.ndarray, among: np.ndarray) -> np.ndarray:
    return Pairs(*pair(of, among)).nearest(1).d2[:, 0].sqrt().cpu().numpy()
