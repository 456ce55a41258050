"""Feature arrays as they were given: checked, but neither copied nor widened."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.contract import CallError

__all__ = ["held", "held_pair"]


def held(x: Any, role: str, *, least: int = 1) -> Tensor:
    """`x` as a tensor `(n, d)` on its own device, in its own memory where it is float32 or float64.

    Half precision becomes float32 and integers float64, both without loss; samples of any shape are
    flattened. `arrays.features` makes float64 of everything, which for 50 000 × 2048 is 800 MB a set.
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


def held_pair(real: Any, generated: Any, *, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both sets, checked, on the device of `real`. Raises CallError where their widths differ."""
    a = held(real, "real", least=least)
    b = held(generated, "generated", least=least).to(a.device)
    if a.shape[1] != b.shape[1]:
        raise CallError(
            f"real has {a.shape[1]} features and generated {b.shape[1]}; take both from one extractor"
        )
    return a, b


def _from_numpy(x: Any) -> Tensor:
    array = np.asarray(x)
    if array.dtype.byteorder not in "=|" or any(s < 0 for s in array.strides):
        array = array.astype(array.dtype.newbyteorder("="), order="C")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "not writable": nothing here writes
        return torch.from_numpy(array)
