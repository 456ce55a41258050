"""QuantizeLinear and DequantizeLinear of ONNX as operators of torch, so that a quantized network exports.

What a network is while it is trained (`niwaki.surgery.quantized`) is frozen into these: weights as integers,
activations as a pair of operators.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["FrozenHalf", "FrozenInput", "FrozenWeight"]


def _along(values: Tensor, axis: int, rank: int) -> Tensor:
    return values if values.ndim == 0 else values.reshape([-1 if a == axis else 1 for a in range(rank)])


@torch.library.custom_op("niwaki::quantize_linear", mutates_args=())
def quantize_linear(x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    """saturate(round(x/s) + z), in the type of `zero` (int8 or uint8)."""
    limits = torch.iinfo(zero.dtype)
    q = torch.round(x / _along(scale, axis, x.ndim)) + _along(zero, axis, x.ndim).float()
    return q.clamp(limits.min, limits.max).to(zero.dtype)


@quantize_linear.register_fake
def _(x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    return torch.empty_like(x, dtype=zero.dtype)


@torch.library.custom_op("niwaki::dequantize_linear", mutates_args=())
def dequantize_linear(q: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    """(q − z)·s, float32."""
    return (q.float() - _along(zero, axis, q.ndim).float()) * _along(scale, axis, q.ndim)


@dequantize_linear.register_fake
def _(q: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    return torch.empty_like(q, dtype=torch.float32)


class FrozenInput(nn.Module):
    """An activation through 8 bits, per tensor; through fewer where `ends` clip it before."""

    scale: Tensor
    zero: Tensor

    def __init__(self, scale: Tensor, zero: Tensor, ends: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)
        self.ends = ends

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.ends is None else x.clamp(*self.ends)
        q = torch.ops.niwaki.quantize_linear(x, self.scale, self.zero, 1)
        return torch.ops.niwaki.dequantize_linear(q, self.scale, self.zero, 1)


class FrozenWeight(nn.Module):
    """Integers to the weight: scales along one axis; where `shape` is given, the integers are rows of groups
    `(out · groups, size)`, and the weight is `shape` with its first axis moved to `axis`."""

    scale: Tensor
    zero: Tensor

    def __init__(self, scale: Tensor, zero: Tensor, axis: int, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)
        self.axis, self.shape = axis, shape

    def forward(self, q: Tensor) -> Tensor:
        if self.shape is None:
            return torch.ops.niwaki.dequantize_linear(q, self.scale, self.zero, self.axis)
        w = torch.ops.niwaki.dequantize_linear(q, self.scale, self.zero, 0)
        return w.reshape(self.shape).movedim(0, self.axis)


class FrozenHalf(nn.Module):
    """A weight stored as 16-bit floats."""

    def forward(self, w: Tensor) -> Tensor:
        return w.float()
