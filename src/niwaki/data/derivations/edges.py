"""Where something begins or ends in a picture, whatever its colour."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from niwaki.core.contract import CallError, Levels, ValueSpec
from niwaki.data.columns import Column
from niwaki.data.derived import register_derivation

__all__ = ["edges"]

STRONG = 0.4
"""Share of the steepest slope in a picture at which an edge begins."""
FAINTEST = 0.1
"""Slope, in shares of the range of values over one pixel, below which nothing is an edge."""


@register_derivation("edges")
def edges(x: Tensor, spec: ValueSpec) -> Column:
    """`(n, 1, H, W)` of two levels, seen −1 and 1: 1 where the slope (Sobel & Feldman 1968) of any channel
    comes near the steepest of that picture, so that neither colour nor brightness is told."""
    if spec.axes != "CHW" or spec.is_tokens:
        raise CallError(f"data.derive: edges are of images, and these data are {spec.modality}")
    slope = torch.stack(_slopes(x)).square().sum(0).sqrt().amax(1, keepdim=True)
    steepest = slope.amax((1, 2, 3), keepdim=True)
    at = (slope >= STRONG * steepest) & (slope >= FAINTEST * _range(x, spec))
    value = ValueSpec("image", (1, *spec.shape[1:]), "CHW", Levels(2, -1.0, 1.0))
    return Column(value, at.to(torch.uint8))


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Down and to the right, in values per pixel, `(n, C, H, W)` each."""
    n, channels, height, width = x.shape
    kernel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]], device=x.device) / 8.0
    each = F.pad(x.reshape(n * channels, 1, height, width), (1, 1, 1, 1), mode="replicate")
    across, down = F.conv2d(each, kernel[None, None]), F.conv2d(each, kernel.T[None, None])
    return down.reshape(x.shape), across.reshape(x.shape)


def _range(x: Tensor, spec: ValueSpec) -> float:
    """Between the least and the greatest value that there can be; of values without bounds that there are."""
    width = spec.high - spec.low
    return width if width < float("inf") else float(x.max() - x.min())
