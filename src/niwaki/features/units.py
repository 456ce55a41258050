"""Columns of different units, brought to one scale before any network looks at them.

Metres beside millimetres, kelvin beside shares: a network sees what is large in numbers, and a column that is
off by five of its own deviations moves nothing where the others are a thousand times larger. Vectors and
series are therefore standardised by the training split. Pictures, clips and tokens have one unit throughout
and stay as they are, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, DataSpec

__all__ = ["Units", "has_units", "units_of"]

_ENOUGH = 4096
"""Training samples that the units are taken from."""
_ROUNDING = 2.0**-22
"""A deviation below this share of the mean is float32's rounding of a constant."""


def has_units(spec: DataSpec) -> bool:
    """Whether the columns (of vectors) or channels (of series) may be of different units: amounts on no grid
    of pixels, with channels, or without bounds."""
    if spec.is_tokens or {"H", "W"} & set(spec.axes) or "?" in spec.axes:
        return False
    return "C" in spec.axes or not math.isfinite(spec.high - spec.low)


def units_of(spec: DataSpec) -> nn.Module:
    """`Units` where there may be several, else a module that changes nothing and has no weights."""
    return Units(spec) if has_units(spec) else nn.Identity()


class Units(nn.Module):
    """(x − mean)/deviation of every column or channel; what never changes is centred alone.

    mean, scale: one for each channel, in the shape of a sample with 1 where it has steps of time
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        shape = tuple(side if axis == "C" else 1 for axis, side in zip(spec.axes, spec.shape, strict=True))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.scale

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """From training samples (n, *shape)."""
        x = x[:_ENOUGH].double()
        along = (0, *(axis + 1 for axis, side in enumerate(self.mean.shape) if side != x.shape[axis + 1]))
        mean, spread = x.mean(along), x.std(along, correction=0)
        known = spread > _ROUNDING * mean.abs()
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.scale.copy_(torch.where(known, 1.0 / spread, 1.0).reshape(self.scale.shape))

    def fit_batches(self, batches: Callable[[int], Batch]) -> None:
        """From the first batches that a training is to see."""
        found = [batches(0).x]
        while len(found) * len(found[0]) < _ENOUGH and len(found) < _ENOUGH // 16:
            found.append(batches(len(found)).x)
        self.fit(torch.cat(found))
