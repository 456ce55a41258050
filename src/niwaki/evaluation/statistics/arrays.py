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
from niwaki.core.errors import first_line

__all__ = ["Array", "beside", "exact_matmul", "features", "held", "held_pair", "pair"]

Array = np.ndarray | Tensor


_LARGEST, _SMALLEST = 1e60, 1e-60
"""Products of two covariances are fourth powers."""


def held(x: Any, role: str, *, least: int = 1, any_size: bool = False) -> Tensor:
    """`x` as a tensor `(n, d)` on its own device, in its own memory where it is float32 or float64.

    Half precision becomes float32 and integers float64, both without loss; samples of any shape are
    flattened. `features` makes float64 of everything, which for 50 000 × 2048 is 800 MB a set.
    any_size: for metrics of directions, which no factor changes
    Raises CallError for fewer than `least` rows, another kind of array, NaN and infinity.
    """
    tensor = x.detach() if isinstance(x, Tensor) else _from_numpy(x, role)
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise CallError(f"the {role} features must be a dense array of real numbers, not {tensor.layout}")
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
    if len(tensor) < max(least, 1):  # before it is flattened, which no empty array can be
        raise CallError(f"this metric needs at least {max(least, 1)} {role} samples, not {len(tensor)}")
    if 0 in tensor.shape:
        raise CallError(f"the {role} features have no columns")
    tensor = tensor.reshape(len(tensor), -1)
    # A sum that is not finite may have overflowed: only those rows are looked at one by one.
    rows = (~tensor.sum(1).isfinite()).nonzero()[:, 0]
    rows = rows[torch.tensor([not bool(tensor[i].isfinite().all()) for i in rows.tolist()], dtype=torch.bool)]
    if len(rows):
        raise CallError(
            f"{len(rows)} of the {role} features hold NaN or infinity, the first in row {int(rows[0])}"
        )
    if not any_size:
        _check_size(tensor, role)
    return tensor


def _check_size(tensor: Tensor, role: str) -> None:
    """Raises CallError for features whose fourth powers float64 cannot hold: they would end as ∞, NaN or 0,
    and 0 is a perfect score. float32 holds none of these."""
    if tensor.dtype != torch.float64:
        return
    low, high = torch.aminmax(tensor)
    largest = max(abs(float(low)), abs(float(high)))
    if largest > _LARGEST or 0 < largest < _SMALLEST:
        size = "large" if largest > 1 else "small"
        raise CallError(
            f"the {role} features are too {size} (up to {largest:.3g}): their products leave the range of "
            "float64; scale all features by one factor"
        )


def features(x: Any, role: str, *, least: int = 1, any_size: bool = False) -> Tensor:
    """`x` as a float64 tensor `(n, d)` on its own device; samples of any shape are flattened.

    role:  what the error calls it (`real`, `generated` …)
    least: fewest rows that make sense
    Raises CallError for too few rows, another kind of array, NaN and infinity.
    """
    given = x if isinstance(x, Tensor) else _array(x, role, copy=True)
    return held(given, role, least=least, any_size=any_size).double()


def held_pair(real: Any, generated: Any, *, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both sets, held, on the device of `real`. Raises CallError where their widths differ."""
    a, b = held(real, "real", least=least), held(generated, "generated", least=least)
    return _alike(a, "real", b, "generated")


def pair(real: Any, generated: Any, *, least: int = 1, any_size: bool = False) -> tuple[Tensor, Tensor]:
    """Both sets in float64, on the device of `real`. Raises CallError where their widths differ."""
    how: dict[str, Any] = {"least": least, "any_size": any_size}
    a, b = features(real, "real", **how), features(generated, "generated", **how)
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


def _array(x: Any, role: str, *, copy: bool = False) -> np.ndarray:
    """Raises CallError for what is no array of numbers: objects, words, dates, rows of different lengths, and
    masked entries, which numpy would let through."""
    if np.ma.isMaskedArray(x) and np.ma.getmaskarray(x).any():
        raise CallError(f"the {role} features hold masked entries; fill them, or leave these samples out")
    try:
        array = np.array(x) if copy else np.asarray(x)
    except (ValueError, TypeError) as error:
        raise CallError(f"the {role} features are no array of numbers: {first_line(error)}") from None
    if array.dtype.kind not in "biufc":
        raise CallError(
            f"the {role} features must be real numbers, not {array.dtype}; x.astype(np.float64) makes floats"
        )
    if array.dtype.itemsize > 8 and array.dtype.kind == "f":
        return array.astype(np.float64)
    return array


def _from_numpy(x: Any, role: str) -> Tensor:
    array = _array(x, role)
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
