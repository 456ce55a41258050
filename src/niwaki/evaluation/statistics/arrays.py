"""What the metrics take: two-dimensional arrays of features, from numpy or torch, checked once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError

__all__ = ["Array", "beside", "exact_matmul", "features", "held", "held_pair", "pair"]

Array = np.ndarray | Tensor


def held(x: Any, role: str, *, least: int = 1) -> Tensor:
    """`x` as a tensor `(n, d)` on its own device, in its own memory where it is float32 or float64.

    Half precision becomes float32 and integers float64, both without loss; samples of any shape are
    flattened. `features` makes float64 of everything, which for 50 000 × 2048 is 800 MB a set.
    Raises CallError for fewer than `least` rows, another kind of array, NaN and infinity.
    """
    tensor = x.detach() if isinstance(x, Tensor) else _from_numpy(x)
    if tensor.ndim < 2:
        raise CallError(
            f"the {role} features must be an array (samples, features), not of shape {tuple(tensor.shape)}"
        )
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise CallError(f"the {role} features must be real numbers, not {tensor.dtype}")
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    elif tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.double()
    tensor = tensor.reshape(len(tensor), -1)
    if len(tensor) < least:
        raise CallError(f"this metric needs at least {least} {role} samples, not {len(tensor)}")
    if tensor.shape[1] < 1:
        raise CallError(f"the {role} features have no columns")
    # A sum that is not finite may have overflowed: only those rows are looked at one by one.
    rows = (~tensor.sum(1).isfinite()).nonzero()[:, 0]
    rows = rows[torch.tensor([not bool(tensor[i].isfinite().all()) for i in rows.tolist()], dtype=torch.bool)]
    if len(rows):
        raise CallError(
            f"{len(rows)} of the {role} features hold NaN or infinity, the first in row {int(rows[0])}"
        )
    return tensor


def features(x: Any, role: str, *, least: int = 1) -> Tensor:
    """`x` as a float64 tensor `(n, d)` on its own device; samples of any shape are flattened.

    role:  what the error calls it (`real`, `generated` …)
    least: fewest rows that make sense
    Raises CallError for too few rows, another kind of array, NaN and infinity.
    """
    return held(x if isinstance(x, Tensor) else np.array(x), role, least=least).double()


def held_pair(real: Any, generated: Any, *, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both sets, held, on the device of `real`. Raises CallError where their widths differ."""
    a, b = held(real, "real", least=least), held(generated, "generated", least=least)
    return _alike(a, "real", b, "generated")


def pair(real: Any, generated: Any, *, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both sets in float64, on the device of `real`. Raises CallError where their widths differ."""
    a, b = features(real, "real", least=least), features(generated, "generated", least=least)
    return _alike(a, "real", b, "generated")


def beside(train: Tensor, x: Any, role: str, *, least: int = 1) -> Tensor:
    """`x` in float64, on the device of the checked features `train`, for the memorisation metrics.

    Raises CallError where its width is another, for too few rows, NaN.
    """
    return _alike(train, "train", features(x, role, least=least), role)[1]


def _alike(a: Tensor, name: str, b: Tensor, other: str) -> tuple[Tensor, Tensor]:
    if a.shape[1] != b.shape[1]:
        raise CallError(
            f"{name} has {a.shape[1]} features and {other} {b.shape[1]}; take both from one extractor"
        )
    return a, b.to(a.device)


def _from_numpy(x: Any) -> Tensor:
    array = np.asarray(x)
    if array.dtype.byteorder not in "=|" or any(s < 0 for s in array.strides):
        array = array.astype(array.dtype.newbyteorder("="), order="C")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "not writable": nothing here writes
        return torch.from_numpy(array)


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
