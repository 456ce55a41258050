"""Rounding as torch's exporters know it: activations on int8 and weights on int8, whatever ONNX has them on.

A byte u of 0 … 255 with zero point z and one of −128 … 127 with z − 128 mean the same number.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.ao.quantization.fx import _decomposed  # noqa: F401  registers the operators

from niwaki.core.contract import NiwakiError
from niwaki.deployment.torch_graph.operators import Given, operator

_OPS = torch.ops.quantized_decomposed
LOW, HIGH = -128, 127


def _grid(given: Given) -> tuple[float, int]:
    """Scale and zero point on int8 of a whole tensor."""
    scale, zero = given.constants[1], given.constants[2] if len(given.constants) > 2 else None
    if scale is None or scale.size != 1:
        raise NiwakiError("activations that are rounded by a grid for each channel have no form in torch")
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    if kind not in (np.int8, np.uint8):
        raise NiwakiError(f"activations on {kind} have no form in torch")
    offset = 128 if kind == np.uint8 else 0
    return float(scale.reshape(())), (0 if zero is None else int(zero.reshape(()))) - offset


@operator("QuantizeLinear", first_alone=True)
def _quantize(given: Given) -> Callable[..., Tensor]:
    scale, zero = _grid(given)
    return lambda x: _OPS.quantize_per_tensor(x, scale, zero, LOW, HIGH, torch.int8)


@operator("DequantizeLinear", first_alone=True)
def _dequantize(given: Given) -> Callable[..., Tensor]:
    scale, zero = _grid(given)
    return lambda q: _OPS.dequantize_per_tensor(q, scale, zero, LOW, HIGH, torch.int8)
