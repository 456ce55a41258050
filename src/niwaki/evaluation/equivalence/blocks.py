"""Damage of paired samples that come block by block, so that drawing can end as soon as enough is known
(`niwaki.compression.search.rejection`).

The statistics are those of the verdict (`niwaki.evaluation.equivalence.paired`): log realism is a mean over
pairs, so that a block has a value of its own; rarefied coverage is not, so that what a block adds to it is
its jackknife pseudo-value, k·θ(all) − (k − 1)·θ(without it) (Tukey 1958; Efron & Stein 1981).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from niwaki.data import Dataset
from niwaki.evaluation.equivalence.calibration import Calibration
from niwaki.evaluation.equivalence.margins import AXES, K, real_size
from niwaki.evaluation.pairwise.neighbourhood import neighbourhoods, rarefied_coverage_table
from niwaki.evaluation.statistics.samples import check_samples, split_features
from niwaki.features import Extractor

__all__ = ["BlockDamage"]


class BlockDamage:
    """What each block of pairs lost, by axis, in margins.

    before:      all samples before `(n, *shape)`; of these the blocks are counted off
    calibration: margins for as many pairs
    seed:        of the real samples that serve, which are those of a verdict on all pairs
    """

    def __init__(
        self,
        before: np.ndarray,
        dataset: Dataset,
        extractors: Sequence[Extractor],
        calibration: Calibration,
        *,
        seed: int,
    ) -> None:
        self._dataset, self._extractors = dataset, extractors
        self._margins = {axis: calibration.margins[axis].value for axis in AXES}
        size = real_size(len(dataset.test), len(before))
        rng = np.random.default_rng([seed, 0x7061])  # as in `niwaki.evaluation.equivalence.compare`
        chosen = np.sort(rng.permutation(len(dataset.test))[:size])
        self.real = size
        self._places = [split_features(e, dataset, "test")[chosen] for e in extractors]
        self._before = [
            neighbourhoods(real, [e(before)], K)[0] for real, e in zip(self._places, extractors, strict=True)
        ]
        self.drawn = 0
        self._fidelity: list[float] = []
        self._counts: list[np.ndarray] = []

    @property
    def measurable(self) -> bool:
        """Whether both axes have a margin."""
        return all(margin > 0 for margin in self._margins.values())

    @property
    def enough(self) -> bool:
        """Whether the samples without any one block are as many as coverage is told of."""
        most = max((_samples(counts) for counts in self._counts), default=0)
        return len(self._counts) > 1 and self.drawn - most >= self.real

    def add(self, after: np.ndarray) -> None:
        """One more block: the samples after `(m, *shape)` that follow those of the blocks before.

        Raises CallError for another shape and for values that are not finite.
        """
        after = check_samples(after, self._dataset.spec, "after")
        rows = slice(self.drawn, self.drawn + len(after))
        changes, counts = [], []
        for real, extractor, whole in zip(self._places, self._extractors, self._before, strict=True):
            now, then = neighbourhoods(real, [extractor(after)], K)[0], whole.part(rows)
            changes.append(float((then.log_realism - now.log_realism).mean()))
            counts.append(np.stack([then.counts(), now.counts()]))
        self._fidelity.append(float(np.mean(changes)))
        self._counts.append(np.concatenate(counts, axis=0))
        self.drawn += len(after)

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """(fidelity, diversity) of each block `(k,)`, in margins; diversity as pseudo-values."""
        k = len(self._counts)
        whole = np.sum(self._counts, axis=0)
        theta = self._loss(whole)
        without = np.array([self._loss(whole - one) for one in self._counts])
        fidelity = np.asarray(self._fidelity) / self._margins["fidelity"]
        return fidelity, (k * theta - (k - 1) * without) / self._margins["diversity"]

    def _loss(self, counts: np.ndarray) -> float:
        """Rarefied coverage before, less that after, the mean over the extractors."""
        n = _samples(counts)
        reached = rarefied_coverage_table(n, min(self.real, n))[counts].mean(1)
        return float((reached[0::2] - reached[1::2]).mean())


def _samples(counts: np.ndarray) -> int:
    """Each of them is near K real ones."""
    return int(counts[0].sum()) // K
