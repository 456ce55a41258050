"""Rounding to a grid of integers, with the gradients that train through it, and the scales of a grid.

A value x becomes s·(clip(round(x/s) + z, low, high) − z), as the ONNX standard defines QuantizeLinear and
DequantizeLinear: ties to even, and the zero point z an integer, so that zero itself is exact.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["OBSERVERS", "affine_scale", "fake_quantize", "grid", "symmetric_scale"]

OBSERVERS = ("minmax", "percentile", "mse")
"""`minmax`: the whole range. `percentile`: all but one value in a thousand at each end. `mse`: the shrunken
range whose rounded values are nearest in the mean square."""

_SHRINK = 40  # ranges that `mse` tries, from the whole one down to a fifth of it
_TAIL = 1e-3
_FLOOR = 2.0**-16  # of the tensor's largest scale: what is smaller than that rounds to nothing


def grid(bits: int, *, symmetric: bool = True, signed: bool = True) -> tuple[int, int]:
    """Smallest and largest integer of a grid of 2 … 8 bits.

    Symmetric ones leave the lowest number out, as −s·2^(b−1) has no counterpart: 2 bits are {−1, 0, 1}.
    """
    if not signed:
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)) + symmetric, 2 ** (bits - 1) - 1


class _FakeQuantize(torch.autograd.Function):
    """Straight through to x inside the range, and the step size of LSQ (Esser et al. 2020, eq. 3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x, scale, zero)
        ctx.limits = low, high
        return ((torch.round(x / scale) + zero).clamp(low, high) - zero) * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zero = ctx.saved_tensors
        low, high = (limit - zero for limit in ctx.limits)
        (grad,), v = grads, x / scale
        below, above = v < low, v > high
        grad_x = grad.masked_fill(below | above, 0.0).to(x.dtype) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None, None, None
        # ∂/∂s of s·round(x/s) with ∂round = 1 is round(x/s) − x/s; outside, the limit itself. Each scale's
        # gradient is evened out by √(values · steps), its own as in the paper.
        slope = torch.where(below, low, torch.where(above, high, torch.round(v) - v))
        gain = 1.0 / math.sqrt(max(x.numel() // scale.numel(), 1) * max(ctx.limits[1], 1))
        return grad_x, (grad * slope).sum_to_size(scale.shape) * gain, None, None, None


def fake_quantize(x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """`x` on the grid s·({low … high} − z), float again; `scale` > 0 and `zero` broadcast over x.

    Gradients: 1 for x within the range and 0 outside; LSQ's for the scale, times 1/√(n·high) for n values per
    scale.
    """
    made: Tensor = _FakeQuantize.apply(x, scale, zero, low, high)
    return made


@torch.no_grad()
def symmetric_scale(rows: Tensor, bits: int, observer: str = "mse") -> Tensor:
    """One scale per row of `rows` (m, n), (m,), for a grid around zero of `bits` bits.

    Rows of zeros get the scale of the largest row (1 where there is none), so that no bias divided by it
    leaves the range of 32 bits.
    """
    top = grid(bits)[1]
    reach = rows.abs().amax(1)
    if observer == "percentile":
        reach = rows.abs().kthvalue(max(1, math.ceil((1.0 - _TAIL) * rows.shape[1])), dim=1).values
    scale = _floored(reach / top)
    if observer != "mse":
        return scale
    best, chosen = torch.full_like(scale, math.inf), scale
    for share in torch.linspace(1.0, 0.2, _SHRINK).tolist():
        tried = scale * share
        error = fake_quantize(rows, tried[:, None], torch.zeros(()), -top, top).sub_(rows).square_().sum(1)
        chosen, best = torch.where(error < best, tried, chosen), torch.minimum(best, error)
    return _floored(chosen)


@torch.no_grad()
def affine_scale(rows: Tensor, low: int, high: int, observer: str = "mse") -> tuple[Tensor, Tensor]:
    """Scale and integer zero point `(m,)` per row of `rows` (m, n) that fit its range, zero included.

    scale = (most − least)/(high − low), zero = low − least/scale.
    """
    least, most = rows.amin(1).clamp(max=0.0), rows.amax(1).clamp(min=0.0)
    if observer == "percentile":
        sorted_rows = rows.sort(1).values
        cut = int(_TAIL * rows.shape[1])
        least, most = sorted_rows[:, cut].clamp(max=0.0), sorted_rows[:, -1 - cut].clamp(min=0.0)
    best = torch.full_like(least, math.inf)
    scale, zero = _affine(least, most, low, high)
    if observer != "mse":
        return scale, zero
    chosen, reach = (scale, zero), torch.maximum(-least, most)
    for share in torch.linspace(1.0, 0.2, _SHRINK).tolist():
        # The longer end gives way first: after SiLU, the little that is negative is kept.
        ends = torch.maximum(least, -share * reach), torch.minimum(most, share * reach)
        tried, offset = _affine(*ends, low, high)
        made = fake_quantize(rows, tried[:, None], offset[:, None], low, high)
        error = made.sub_(rows).square_().sum(1)
        better = error < best
        chosen = torch.where(better, tried, chosen[0]), torch.where(better, offset, chosen[1])
        best = torch.minimum(best, error)
    return chosen


def _affine(least: Tensor, most: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    scale = _floored((most - least) / (high - low))
    return scale, (low - torch.round(least / scale)).clamp(low, high)


def _floored(scale: Tensor) -> Tensor:
    largest = scale.max() if scale.numel() and bool(scale.max() > 0) else scale.new_tensor(1.0)
    return torch.where(scale > _FLOOR * largest, scale, largest)
