"""What the memorisation metrics take: the training samples and the sets that are held against them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from niwaki.contract import CallError
from niwaki.evaluation.arrays import features

__all__ = ["beside"]


def beside(train: Tensor, x: Any, role: str, *, least: int = 1) -> Tensor:
    """`x` as checked float64 features `(n, d)` on the device of `train`.

    Raises CallError where its width is another, for too few rows, NaN.
    """
    y = features(x, role, least=least)
    if y.shape[1] != train.shape[1]:
        raise CallError(
            f"train has {train.shape[1]} features and {role} {y.shape[1]}; take both from one extractor"
        )
    return y.to(train.device)
