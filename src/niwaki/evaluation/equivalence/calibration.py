"""Margins that were measured beforehand: a record that can be kept, and that a later verdict takes up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.core.contract import NiwakiError
from niwaki.core.store import hash_bytes, hash_json
from niwaki.data import Dataset
from niwaki.evaluation.equivalence.margins import (
    AXES,
    CUTS,
    LEVEL,
    MODES,
    SHARE,
    K,
    Margin,
    calibrate,
    real_size,
)
from niwaki.evaluation.statistics.samples import check_samples
from niwaki.features import Extractor

__all__ = ["Calibration", "calibrated", "calibration_key"]

_METHOD = "whole modes of ten, upper ends"
"""Changed with the way that margins are measured: part of what they are known by."""


@dataclass(frozen=True)
class Calibration:
    """margins: by axis; key: hash of all they follow from; stored: whether they come from a record."""

    margins: Mapping[str, Margin]
    key: str
    stored: bool = False

    def to_json(self) -> dict[str, Any]:
        found = {axis: margin.to_json() for axis, margin in self.margins.items()}
        return {"key": self.key, "method": _METHOD, "share": SHARE, **found}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Calibration:
        """Raises NiwakiError for a record of another kind."""
        try:
            margins = {axis: Margin.from_json(record[axis]) for axis in AXES}
            return cls(margins, str(record["key"]), stored=True)
        except (KeyError, TypeError, ValueError) as error:
            raise NiwakiError(f"this is no record of margins: {error!r}") from None


def calibration_key(
    before: np.ndarray,
    dataset: Dataset,
    extractors: Sequence[Extractor],
    *,
    seed: int,
    size: int | None = None,
) -> str:
    """Of the data, the extractors, the samples before and their number, the seed and the method."""
    size = real_size(len(dataset.test), len(before)) if size is None else size
    settings = [_METHOD, SHARE, LEVEL, MODES, CUTS, K, seed, size, dataset.fingerprint, list(before.shape)]
    seen = [[e.name, e.fingerprint] for e in extractors]
    return hash_json([settings, seen, hash_bytes(np.ascontiguousarray(before).tobytes())])


def calibrated(
    before: Any,
    dataset: Dataset,
    extractors: Sequence[Extractor],
    *,
    seed: int = 0,
    size: int | None = None,
    of_before: Sequence[np.ndarray] | None = None,
) -> Calibration:
    """Measure both margins for the samples `before` `(n, *shape)`, n ≥ 50, to be kept until something is
    compared with them: `compare(before, …, calibration=…)`.

    size:      real samples that serve; default: as many as for pairs of these samples
    of_before: their features in each extractor, where they are known
    Raises CallError for another shape, NaN, and for too few samples.
    """
    before = check_samples(before, dataset.spec, "before")
    seen = [e(before) for e in extractors] if of_before is None else of_before
    size = real_size(len(dataset.test), len(before)) if size is None else size
    margins = calibrate(extractors, before, seen, dataset, size, seed)
    return Calibration(margins, calibration_key(before, dataset, extractors, seed=seed, size=size))
