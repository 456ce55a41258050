"""Margins: the largest loss that counts as none, measured by planting known damage into the samples before.

A margin is an estimate itself. Where it is not above its own noise (a model trained too briefly makes samples
that ruining costs nothing), it allows nothing to be said, and the verdict says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from niwaki.contract import CallError, nearest
from niwaki.data import Dataset
from niwaki.evaluation.arrays import pair
from niwaki.evaluation.neighbourhood import neighbourhood
from niwaki.evaluation.planted import drop_costs, ruin
from niwaki.evaluation.result import Z95
from niwaki.evaluation.samples import split_features
from niwaki.evaluation.sweep import Pairs
from niwaki.evaluation.verdict import Axis
from niwaki.features import Extractor

__all__ = [
    "AXES",
    "DIVERSITY",
    "FIDELITY",
    "MOST_REAL",
    "MOST_TRAIN",
    "SHARE",
    "Costs",
    "K",
    "Margin",
    "first_features",
    "given_margins",
    "margins_of",
    "planted_costs",
]

AXES = ("fidelity", "diversity")
K = 5
SHARE = 0.05
"""Damage that a margin allows: as if this share of the samples were ruined, or never made."""
MOST_REAL = 2000
MOST_TRAIN = 4096
MOST_RUINED = 500
"""Samples that are ruined for the margin of fidelity."""

FIDELITY = Axis(
    "fidelity",
    "closeness: mean log ratio of a real neighbour's radius to the distance from it",
    "samples moved closer to the real ones",
    "samples moved away from the real ones",
    f"blurring {SHARE:.0%} of the samples beyond recognition would cost",
    "the samples before compression are no better than ruined ones",
)
DIVERSITY = Axis(
    "diversity",
    "reach: share of real samples among the nearest of a generated one",
    "the share of real samples that are reached rose",
    "the share of real samples that are reached fell",
    f"never making the modes of {SHARE:.0%} of the samples would cost",
    "leaving out whole modes of the samples before compression costs no diversity",
)


@dataclass(frozen=True)
class Margin:
    """A margin and the standard error of its calibration, 0 where the caller set it."""

    value: float
    noise: float = 0.0

    @property
    def calibrated(self) -> bool:
        """Certainly above 0: a margin within its own noise decides nothing."""
        return self.value > Z95 * self.noise


@dataclass(frozen=True)
class Costs:
    """What planted damage costs in one extractor's eyes; the same samples and modes for all of them.

    ruined: closeness lost by each sample that was ruined `(some,)`
    lost:   reach lost without each mode `(modes,)`
    share:  of the samples in each mode `(modes,)`
    """

    ruined: np.ndarray
    lost: np.ndarray
    share: np.ndarray


def planted_costs(
    extractor: Extractor,
    before: np.ndarray,
    of_before: np.ndarray,
    modes: np.ndarray,
    size: int,
    dataset: Dataset,
    seed: int,
) -> Costs:
    """Measured among `size` real samples that are not of the test split.

    before, of_before: samples and their features; modes: the mode of each `(n,)`
    """
    reference = _reference(extractor, dataset, of_before, size, seed)
    rng = np.random.default_rng([seed, 0x6D61])
    some = rng.permutation(len(before))[:MOST_RUINED]
    whole = neighbourhood(reference, of_before, K)
    ruined = neighbourhood(reference, extractor(ruin(before[some], dataset.spec, rng)), K)
    return Costs(whole.closeness[some] - ruined.closeness, *drop_costs(whole, modes, len(reference)))


def margins_of(costs: Sequence[Costs]) -> dict[str, Margin]:
    """Both margins, of the costs averaged over the extractors, as the statistics are.

    Noise: of fidelity the standard error of the mean over samples, of diversity the delete-one jackknife
    over modes (the slope is a ratio of sums over them).
    """
    ruined = np.mean([c.ruined for c in costs], axis=0)
    lost, share = np.mean([c.lost for c in costs], axis=0), costs[0].share
    slope = noise = 0.0
    if len(lost) >= 2:
        slope = float(lost.sum() / share.sum())
        without = (lost.sum() - lost) / (share.sum() - share)
        noise = float(np.sqrt((len(lost) - 1) * without.var()))
    error = float(ruined.std(ddof=1)) / len(ruined) ** 0.5
    return {
        "fidelity": Margin(_above_rounding(SHARE * float(ruined.mean())), SHARE * error),
        "diversity": Margin(_above_rounding(SHARE * slope), SHARE * noise),
    }


def _above_rounding(value: float) -> float:
    """0 for what only rounding leaves: flat pictures are blurred into themselves."""
    return value if value > 1e-6 else 0.0


def given_margins(margins: Mapping[str, float] | None) -> dict[str, Margin]:
    """The caller's. Raises CallError for an axis that there is not, and for a margin of 0 or less."""
    for name, value in (margins or {}).items():
        if name not in AXES:
            raise CallError(f"there is no axis '{name}' to set a margin for; {nearest(name, AXES)}")
        if not value > 0:
            raise CallError(f"the margin of {name} must be above 0, not {value}")
    return {name: Margin(float(value)) for name, value in (margins or {}).items()}


def first_features(extractor: Extractor, dataset: Dataset, split: str, most: int) -> np.ndarray:
    """Features of the first samples of a split (splits come shuffled)."""
    if len(dataset.split(split)) <= most:
        return split_features(extractor, dataset, split)
    return split_features(extractor, dataset, split, np.arange(most))


def _reference(
    extractor: Extractor, dataset: Dataset, of_before: np.ndarray, size: int, seed: int
) -> np.ndarray:
    """Real features to calibrate among, as many as serve of the test split: validation, filled up from train.

    Training samples that a generated one copies are left out: a model that knows its training set by heart
    would look closer to it than it is to anything else, and widen its own margin.
    """
    validation = first_features(extractor, dataset, "validation", size)
    if len(validation) == size:
        return validation
    train = first_features(extractor, dataset, "train", MOST_TRAIN)
    limit = np.quantile(_nearest(validation, train), 0.01)
    order = np.random.default_rng([seed, 0x7661]).permutation(len(train))
    order = order[_nearest(train, of_before)[order] >= limit]
    filled = np.concatenate([validation, train[order[: size - len(validation)]]])
    if len(filled) <= 4 * K:
        raise CallError(
            f"only {len(filled)} real samples are left to measure margins on; give margins instead"
        )
    return filled


def _nearest(of: np.ndarray, among: np.ndarray) -> np.ndarray:
    return Pairs(*pair(of, among)).nearest(1).d2[:, 0].sqrt().cpu().numpy()
