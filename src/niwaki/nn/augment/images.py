"""Views of images and of clips."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from niwaki.core.contract import DataSpec
from niwaki.nn.augment.config import Augment
from niwaki.nn.augment.draws import between, noisy, shifted, spread, stretch, uniform
from niwaki.nn.augment.geometry import affine, blurred, resample

__all__ = ["view_clips", "view_images"]

GREY, OFFSET = 0.2, 0.2


def view_images(x: Tensor, spec: DataSpec, how: Augment, rng: torch.Generator) -> Tensor:
    """(n, C, H, W) → the same shape."""
    n, _, height, width = x.shape
    if how.shift or how.crop < 1 or how.zoom or how.rotate or how.flip:
        theta = affine(n, height, width, how, rng)
        x = resample(x, F.affine_grid(theta, list(x.shape), align_corners=True))
    mean = x.mean((1, 2, 3), keepdim=True)
    if how.contrast:
        x = (x - mean) * between(1 - how.contrast, 1 + how.contrast, (n, 1, 1, 1), rng) + mean
    if how.brightness:
        most = how.brightness * spread(x, spec)
        x = x + between(-most, most, (n, 1, 1, 1), rng)
    if how.color and x.shape[1] > 1:
        x = recoloured(x, spec, how.color, rng)
    if how.blur:
        x = torch.lerp(x, blurred(x), between(0.0, how.blur, (n, 1, 1, 1), rng))
    x = noisy(x, spec, how.noise, rng)
    if how.cutout:
        rows, columns = stretch(height, how.cutout, n, rng), stretch(width, how.cutout, n, rng)
        x = torch.where((rows[:, :, None] & columns[:, None])[:, None], mean, x)
    return x


def recoloured(x: Tensor, spec: DataSpec, most: float, rng: torch.Generator) -> Tensor:
    """Channels nearer to their mean or further from it, each brighter or darker, some views in grey."""
    n, channels = x.shape[:2]
    grey = x.mean(1, keepdim=True)
    factor = between(1 - most, 1 + most, (n, 1, 1, 1), rng)
    factor = factor * (uniform((n, 1, 1, 1), rng) >= GREY)
    offset = OFFSET * most * spread(x, spec)
    return grey + (x - grey) * factor + between(-offset, offset, (n, channels, 1, 1), rng) * (factor > 0)


def view_clips(x: Tensor, spec: DataSpec, how: Augment, rng: torch.Generator) -> Tensor:
    """(n, C, T, H, W) → the same shape: moved in time, and every frame seen alike, as if frames were channels
    of one image."""
    x = shifted(x, 2, round(how.shift * x.shape[2]), rng)
    how = how.model_copy(update={"color": 0.0})  # frames are no channels of one colour
    return view_images(x.flatten(1, 2), spec, how, rng).view(x.shape)
