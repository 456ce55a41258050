"""The scale that damage is read on: the verdict's two statistics, on validation data, in units of margins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from niwaki.compression.sensitivity.entry import Damage
from niwaki.core.contract import CallError, GenerativeModel, NiwakiError
from niwaki.data import Dataset
from niwaki.evaluation.equivalence.margins import (
    AXES,
    MOST_REAL,
    SHARE,
    K,
    calibrate,
    first_features,
    given_margins,
)
from niwaki.evaluation.equivalence.paired import Change, log_realism_change, rarefied_coverage_change
from niwaki.evaluation.pairwise.neighbourhood import neighbourhoods
from niwaki.evaluation.statistics.samples import check_samples
from niwaki.features import Extractor

__all__ = ["SAMPLES", "Scale", "cheapest", "drawn"]

SAMPLES = 5 << 40
"""Seed of the samples, apart from those that are evaluated, calibrated and checked with."""

_FEWEST = 200
"""Real samples that a mode of 5 % has ten of: fewer, and no margin of diversity can be measured."""


def drawn(model: GenerativeModel, n: int, seed: int, condition: Any = None) -> np.ndarray:
    """Samples 0 … n−1. Raises NiwakiError where one is not finite."""
    x: np.ndarray = model.sample(n, seed=SAMPLES + seed, condition=condition).float().cpu().numpy()
    if not np.isfinite(x).all():
        raise NiwakiError("makes samples that are not finite")
    return x


def cheapest(extractors: Sequence[Extractor], fit: Mapping[str, bool | None]) -> Extractor:
    """The narrowest extractor that is not known to be unfit, the first of equals; the first where none is."""
    if not extractors:
        raise CallError("sensitivity needs an extractor that looks at the samples")
    good = [e for e in extractors if fit.get(e.name) is not False]
    return min(good, key=lambda e: e.dim) if good else extractors[0]


class Scale:
    """How samples of a changed model lie among the real ones, against those of the model itself.

    before: samples of the model `(n, *shape)`, of which trials use the first
    """

    def __init__(
        self,
        before: np.ndarray,
        dataset: Dataset,
        extractor: Extractor,
        *,
        margins: Mapping[str, float],
        n: int,
        seed: int,
    ) -> None:
        """n: pairs of the cheap trials; half as many real samples serve. Raises CallError for too few,
        and for samples of another shape than the data's, NiwakiError where no margin can be measured."""
        before = check_samples(before, dataset.spec, "model's")
        self.extractor, self.before = extractor, extractor(before)
        size = min(n // 2, MOST_REAL, max(len(dataset.validation), _FEWEST))
        real = first_features(extractor, dataset, "validation", size)[:size]
        if len(real) < size:  # filled up from train: the model was not judged on either
            real = np.concatenate([real, first_features(extractor, dataset, "train", size - len(real))])
        if len(real) <= 4 * K:
            raise CallError(f"{len(real)} real samples are too few to measure sensitivity among")
        self.real = real
        self.margins = {axis: m.value for axis, m in given_margins(margins).items()}
        if len(self.margins) < len(AXES):
            found = calibrate([extractor], before, [self.before], dataset, len(real), seed)
            self.margins = {axis: found[axis].value for axis in AXES} | self.margins
        for axis, margin in self.margins.items():
            if margin <= 0:
                raise NiwakiError(
                    f"no margin of {axis} can be measured on {len(real)} real samples and {len(before)} of "
                    f"the model: losing {SHARE:.0%} of them does not show. Take n of at least {2 * _FEWEST}, "
                    "train longer, or set sensitivity.margins"
                )

    def damage(self, after: np.ndarray) -> dict[str, Damage]:
        """By axis, of the pairs that `after` `(n, *shape)` makes with the first n samples before."""
        n = len(after)
        first, second = neighbourhoods(self.real, [self.before[:n], self.extractor(after)], K)
        none = np.zeros((1, n), bool)  # no p-value is asked for
        changes = {
            "fidelity": log_realism_change([(first, second)], none),
            "diversity": rarefied_coverage_change([(first, second)], none, len(self.real)),
        }
        return {axis: self._in_margins(axis, change) for axis, change in changes.items()}

    def _in_margins(self, axis: str, change: Change) -> Damage:
        low, high = change.interval()
        margin = self.margins[axis]
        return Damage(change.delta / margin, (low / margin, high / margin))
