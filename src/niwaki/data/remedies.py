"""What may be done about findings of the audit: each remedy names itself in the finding that it remedies.

Whatever has to be estimated is estimated on the training split alone, so that nothing of the validation and
test splits leaks into it; outliers are only left out of training, for results must hold on them too.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import CallError

__all__ = ["Remedies", "copies", "fill_in", "outliers"]


class Remedies(BaseConfig):
    """What is done to the data before a training.

    impute:     fill missing (NaN) and infinite values of samples in by the median or mean of the training
                samples in their place; otherwise such samples are set aside
    duplicates: leave one of samples that are equal
    outliers:   leave training samples out that lie far from all others
    threshold:  how far, in standard deviations of a normal distribution of the same spread
    """

    impute: Literal["median", "mean"] | None = None
    duplicates: Literal["remove"] | None = None
    outliers: Literal["remove"] | None = None
    threshold: float = Field(6.0, gt=0)


def fill_in(x: Tensor, train: np.ndarray, by: Literal["median", "mean"]) -> tuple[Tensor, int]:
    """
    x:     `(n, *shape)` float; train: `(n,)` bool
    Returns x with the values that are not finite replaced, and in how many samples there were any.
    Raises CallError where no training sample has a value in some place.
    """
    rows = x.flatten(1)
    missing = ~torch.isfinite(rows)
    known = rows[torch.from_numpy(train)].double()
    known = torch.where(torch.isfinite(known), known, torch.nan)
    empty = int(torch.isnan(known).all(0).sum())
    if empty:
        raise CallError(
            f"data.remedies.impute: {empty} of {rows.shape[1]} values are missing in every training sample"
        )
    middle = known.nanmedian(0).values if by == "median" else known.nanmean(0)
    filled = torch.where(missing, middle.to(x.dtype), rows)
    return filled.view_as(x), int(missing.any(1).sum())


def copies(hashes: list[bytes]) -> np.ndarray:
    """Samples that equal an earlier one `(n,)` bool."""
    first: set[bytes] = set()
    found = []
    for h in hashes:
        found.append(h in first)
        first.add(h)
    return np.array(found, dtype=bool)


def outliers(x: Tensor, train: np.ndarray, threshold: float) -> np.ndarray:
    """Training samples that lie far from the others `(n,)` bool.

    The distance of a sample is the root mean square of its values, each less the training median and over the
    training standard deviation in its place; far is what lies `threshold` standard deviations above the
    median distance, estimated by the median absolute deviation (1.4826·MAD: Rousseeuw & Croux 1993).
    """
    rows = x[torch.from_numpy(train)].flatten(1).double()
    spread = rows.std(0)
    moves = spread > 0  # what is constant says nothing
    found = np.zeros(len(train), dtype=bool)
    if not bool(moves.any()):
        return found
    scaled = (rows[:, moves] - rows[:, moves].median(0).values) / spread[moves]
    distance = scaled.square().mean(1).sqrt()
    median = distance.median()
    deviation = 1.4826 * (distance - median).abs().median()
    found[np.flatnonzero(train)] = (distance > median + threshold * deviation).numpy()
    return found
