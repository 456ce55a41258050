"""Where views look: crops, zooms and rotations as one affine map for each sample."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from niwaki.nn.augment.config import Augment
from niwaki.nn.augment.draws import between, uniform

__all__ = ["affine", "blurred", "place_crops", "resample"]


def affine(n: int, height: int, width: int, how: Augment, rng: torch.Generator) -> Tensor:
    """Where each view looks, in coordinates −1 … 1 of the image: `(n, 2, 3)`, rotation · zoom and an
    offset."""
    scale = between(how.crop, 1.0, n, rng)
    apart = (1 + how.zoom) ** between(-0.5, 0.5, n, rng)
    wide, high = scale * apart, scale / apart
    if how.flip:
        wide = torch.where(uniform((n,), rng) < 0.5, -wide, wide)
    angle = between(-how.rotate, how.rotate, n, rng) * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    aspect = max(height - 1, 1) / max(width - 1, 1)  # a rotation of pixels, not of the unit square
    dx, dy = (place_crops(scale, how.shift, n, rng) for _ in range(2))
    rows = [wide * cos, -high * sin * aspect, dx, wide * sin / aspect, high * cos, dy]
    return torch.stack(rows, 1).view(n, 2, 3)


def place_crops(scale: Tensor, shift: float, n: int, rng: torch.Generator) -> Tensor:
    """A crop anywhere inside the sample, then the shift; both in units of half the side."""
    return between(-1.0, 1.0, n, rng) * (1 - scale) + between(-2 * shift, 2 * shift, n, rng)


def resample(x: Tensor, grid: Tensor) -> Tensor:
    """Bilinear; what lies outside repeats the edge."""
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)


def blurred(x: Tensor) -> Tensor:
    """(1 2 1)/4 along both axes, edges repeated."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    rows = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4
