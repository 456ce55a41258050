"""Samples after, block by block, beside those before of the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from niwaki.core.contract import Runner
from niwaki.data import Dataset
from niwaki.data.inputs import make_inputs
from niwaki.evaluation.equivalence.blocks import BlockDamage
from niwaki.evaluation.equivalence.calibration import Calibration
from niwaki.evaluation.judges.base import Evidence, Margins
from niwaki.evaluation.judges.running import results, where
from niwaki.evaluation.judges.views import dataset_of
from niwaki.features.extractor import Extractor
from niwaki_runtime.programs import SAMPLING

__all__ = ["SAMPLES", "PairedBlocks", "view_of"]

SAMPLES = "samples"
"""Name of the array of samples in an evidence."""


class PairedBlocks:
    """Sample i follows from the seed and i alone, so that no two blocks share noise.

    before: of the model that `runner` was made from, with as many samples as may be drawn
    """

    def __init__(
        self,
        extractors: Sequence[Extractor],
        runner: Runner,
        before: Evidence,
        margins: Margins,
        dataset: Dataset,
    ) -> None:
        self._runner, self._before, self._dataset = runner, before, dataset
        self._made: list[np.ndarray] = []
        self.damage = BlockDamage(
            before.arrays[SAMPLES], view_of(before, dataset), extractors,
            Calibration.from_json(margins.axes), seed=before.seed,
        )  # fmt: skip

    @property
    def drawn(self) -> int:
        return self.damage.drawn

    def draw(self, many: int) -> None:
        at, split = self.drawn, self._dataset.split(self._before.split)
        inputs = make_inputs(self._runner, SAMPLING, many, split, start=at)
        self._made.append(results(self._runner, SAMPLING, many, self._before.seed, inputs, start=at))
        self.damage.add(self._made[-1])

    def evidence(self) -> Evidence:
        before = self._before  # the same was asked for
        arrays = {name: rows[: self.drawn] for name, rows in before.arrays.items()}
        arrays[SAMPLES] = np.concatenate(self._made)
        facts = {**before.facts, **where(self._runner)}
        return replace(before, n=self.drawn, arrays=arrays, facts=facts)

    def values(self) -> tuple[np.ndarray, np.ndarray] | None:
        return self.damage.values() if self.damage.enough else None


def view_of(evidence: Evidence, dataset: Dataset) -> Dataset:
    """The data that the samples are of: those of their own column."""
    return dataset_of(dataset, str(evidence.facts.get("column", "x")))
