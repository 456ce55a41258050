"""A layer as one matrix product: its weights as rows, its inputs as columns beside them, groups apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

__all__ = ["from_rows", "input_rows", "weight_rows"]

_VALUES = 1 << 23  # of input columns at a time

_CONV: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def weight_rows(layer: nn.Module, weight: Tensor) -> Tensor:
    """A tensor of the shape of the layer's weight as (groups, outputs of one, inputs of one · kernel)."""
    if not isinstance(layer, _ConvNd):
        return weight[None]
    if layer.transposed:  # (in, out/groups, …)
        by_group = weight.unflatten(0, (layer.groups, -1)).flatten(3)
        return by_group.transpose(1, 2).flatten(2)
    return weight.unflatten(0, (layer.groups, -1)).flatten(2)


def from_rows(layer: nn.Module, rows: Tensor, like: Tensor) -> Tensor:
    """What `weight_rows` made of a tensor of the shape of `like`, back in that shape."""
    if isinstance(layer, _ConvNd) and layer.transposed:
        kernel = math.prod(layer.kernel_size)
        return rows.unflatten(2, (-1, kernel)).transpose(1, 2).reshape(like.shape)
    return rows.reshape(like.shape)


def input_rows(layer: nn.Module, *inputs: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Matrices (groups, places, inputs of one group · kernel), of each of `inputs`, for a part of their
    samples at a time: output = columns · rowsᵀ + bias at every place of the output.

    inputs: of one shape, as the layer is given them
    """
    n = len(inputs[0])
    if isinstance(layer, _ConvNd):
        # Transposed, every place of the output holds stride times as many.
        more = math.prod(layer.kernel_size) * (math.prod(layer.stride) if layer.transposed else 1)
        per_sample = inputs[0][0].numel() * more
    else:
        per_sample = inputs[0].numel() // max(n, 1)
    part = max(1, _VALUES // max(per_sample, 1))
    for at in range(0, n, part):
        yield tuple(_columns(layer, x[at : at + part]) for x in inputs)


def _columns(layer: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(layer, _ConvNd):
        return x.reshape(1, -1, x.shape[-1])
    # A kernel that is 1 at one place and 0 at the others moves each channel there: one output per place.
    kernel, rank = math.prod(layer.kernel_size), len(layer.kernel_size)
    places = torch.eye(kernel, dtype=x.dtype, device=x.device)
    channels = x.shape[1]
    if layer.transposed:
        shifts = places.reshape(1, kernel, *layer.kernel_size).expand(channels, *[-1] * (rank + 1))
        args = (layer.stride, layer.padding, layer.output_padding, channels, layer.dilation)
        made = _TRANSPOSED[rank](x, shifts, None, *args)
    else:
        padding: Any = layer.padding
        if layer.padding_mode != "zeros":
            x, padding = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode), 0
        shifts = places.reshape(kernel, 1, *layer.kernel_size).repeat(channels, *[1] * (rank + 1))
        made = _CONV[rank](x, shifts, None, layer.stride, padding, layer.dilation, channels)
    made = made.movedim(1, -1).flatten(0, -2)  # (places, channels · kernel)
    return made.unflatten(1, (layer.groups, -1)).transpose(0, 1)
