"""Convolutions that shrink a grid to a few cells: the body of networks that look at samples."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from niwaki.core.contract import DataSpec
from niwaki.nn.layers.grids import AVERAGE, CONVOLUTION, grid_of

__all__ = ["backbone", "shrink", "shrink_to_vector"]

_LARGE = 24  # sides from which samples are halved at once: layers at full size would take most of the time


def shrink(sides: tuple[int, ...], channels: int, width: int) -> tuple[list[nn.Module], int]:
    """Layers `(n, channels, *sides)` → `(n, values)`, and how many values: convolutions of stride 2 down to a
    side of at most 4, then the mean over two cells along each side.

    width: channels of all convolutions but the first, which has half of them; a multiple of 16
    Normalised by groups, not by batch: what a sample becomes does not depend on its neighbours.
    """
    conv, side = CONVOLUTION[len(sides)], max(sides)
    stride = 1 if side < _LARGE else 2
    layers = _block(conv, channels, width // 2, stride)
    side, channels = -(-side // stride), width // 2
    while side > 4:
        layers += _block(conv, channels, width, 2)
        side, channels = (side + 1) // 2, width
    layers += _block(conv, channels, width, 1)
    cells = tuple(min(2, s) for s in sides)
    return [*layers, AVERAGE[len(sides)](cells), nn.Flatten()], width * math.prod(cells)


def shrink_to_vector(sides: tuple[int, ...], channels: int, width: int) -> nn.Sequential:
    """`(n, channels, *sides)` → `(n, width)`, not negative: `shrink` and a dense layer, or two dense layers
    where there are no sides."""
    if not sides:
        layers = [nn.Linear(channels, 2 * width), nn.LayerNorm(2 * width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(2 * width, width), nn.ReLU())
    shrunk, flat = shrink(sides, channels, width)
    return nn.Sequential(*shrunk, nn.Linear(flat, width), nn.ReLU())


def backbone(spec: DataSpec, width: int, features: int) -> nn.Sequential:
    """(n, *shape) → (n, features). On grids (images, series, clips, tokens): convolutions of stride 2 down to
    a side of at most 4, then a dense layer on two cells along each side; vectors (d,): dense layers.

    Normalised by groups, not by batch: batch statistics tell views of one batch apart from those of another,
    which lets an encoder cheat (He et al. 2020, section 3.3).
    """
    grid = grid_of(spec)
    front, channels = grid.front(width // 2)
    if not grid.sides:
        inner = 4 * width
        layers: list[nn.Module] = []
        for inputs in (channels, inner):
            layers += [nn.Linear(inputs, inner), nn.LayerNorm(inner), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(inner, features))
    layers, flat = shrink(grid.sides, channels, width)
    return nn.Sequential(*front, *layers, nn.Linear(flat, features))


def _block(conv: Any, inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [conv(inputs, outputs, 3, stride=stride, padding=1), nn.GroupNorm(8, outputs), nn.ReLU()]
