"""The margins of a verdict: measured once for the samples before, kept, and taken up by every later verdict
on the same samples, data and extractors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import read_json, write_json
from niwaki.data import Dataset
from niwaki.evaluation.equivalence.calibration import Calibration, calibrated, calibration_key

__all__ = ["fix_margins", "keep_margins", "kept_margins", "margins_file"]


def margins_file(run: Path) -> Path:
    """Where a run keeps those of its trained model, beside its recipe."""
    return run / "margins.json"


def kept_margins(path: Path) -> Calibration | None:
    """What is kept at `path`; None where nothing whole is. Whether it is of the right samples `compare` sees
    by its key."""
    try:
        return Calibration.from_json(read_json(path))
    except NiwakiError:
        return None


def keep_margins(path: Path, calibration: Calibration | None) -> None:
    """Keep margins that were measured just now in the place of others."""
    if calibration is not None and not calibration.stored:
        write_json(path, calibration)


def fix_margins(
    path: Path, before: np.ndarray, dataset: Dataset, extractors: Sequence[Any], *, seed: int
) -> dict[str, Any]:
    """Measure them before anything is compared with these samples, unless they are kept at `path` already.

    Returns the record, `{"left_out": reason}` where the samples or the data allow no verdict.
    """
    known = kept_margins(path)
    try:
        if known is None or known.key != calibration_key(before, dataset, extractors, seed=seed):
            known = calibrated(before, dataset, extractors, seed=seed)
    except CallError as error:
        return {"left_out": str(error)}
    keep_margins(path, known)
    return known.to_json()
