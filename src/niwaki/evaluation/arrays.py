"""What the metrics take: two-dimensional arrays of features, from numpy or torch, checked once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.contract import CallError

__all__ = ["Array", "exact_matmul", "features", "pair"]

Array = np.ndarray | Tensor


def features(x: Any, role: str, *, least: int = 1) -> Tensor:
    """`x` as a float64 tensor `(n, d)` on its own device; samples of any shape are flattened.

    role:  what the error calls it (`real`, `generated` …)
    least: fewest rows that make sense
    Raises CallError for too few rows, another kind of array, NaN and infinity.
    """
    tensor = x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.array(x))
    if tensor.ndim < 2:
        raise CallError(
            f"the {role} features must be an array (samples, features), not of shape {tuple(tensor.shape)}"
        )
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise CallError(f"the {role} features must be real numbers, not {tensor.dtype}")
    tensor = tensor.reshape(len(tensor), -1).to(torch.float64)
    if len(tensor) < least:
        raise CallError(f"this metric needs at least {least} {role} samples, not {len(tensor)}")
    if tensor.shape[1] < 1:
        raise CallError(f"the {role} features have no columns")
    bad = ~torch.isfinite(tensor).all(dim=1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise CallError(
            f"{int(bad.sum())} of the {role} features hold NaN or infinity, the first in row {first}"
        )
    return tensor


def pair(real: Any, generated: Any, *, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both sets, checked, on the device of `real`. Raises CallError where their widths differ."""
    a = features(real, "real", least=least)
    b = features(generated, "generated", least=least).to(a.device)
    if a.shape[1] != b.shape[1]:
        raise CallError(
            f"real has {a.shape[1]} features and generated {b.shape[1]}; take both from one extractor"
        )
    return a, b


@contextmanager
def exact_matmul() -> Iterator[None]:
    """float32 products that are float32: neither TF32 on a GPU nor bf16 on a CPU, whatever training has set.

    A distance is a small difference of large numbers; ten bits of mantissa would decide nothing.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
