"""Views of series and of sound."""

from __future__ import annotations

import torch
from torch import Tensor

from niwaki.core.contract import DataSpec
from niwaki.nn.augment.config import Augment
from niwaki.nn.augment.draws import between, noisy, stretch
from niwaki.nn.augment.geometry import place_crops, resample

__all__ = ["view_series"]


def view_series(x: Tensor, spec: DataSpec, how: Augment, rng: torch.Generator) -> Tensor:
    """(n, C, T) → the same shape."""
    n, channels, length = x.shape
    if how.shift or how.crop < 1:
        scale = between(how.crop, 1.0, n, rng)
        offset = place_crops(scale, how.shift, n, rng)
        # A series is an image of one row: `grid_sample` knows no 1-D.
        along = torch.linspace(-1, 1, length, device=x.device) if length > 1 else x.new_zeros(1)
        grid = torch.stack([along * scale[:, None] + offset[:, None], x.new_zeros(n, length)], -1)
        x = resample(x[:, :, None], grid[:, None]).squeeze(2)
    if how.amplitude:
        factor = between(1 - how.amplitude, 1 + how.amplitude, (n, channels, 1), rng)
        mean = x.mean(2, keepdim=True)
        x = (x - mean) * factor + mean
    if how.cutout:
        x = torch.where(stretch(length, how.cutout, n, rng)[:, None], x.mean(2, keepdim=True), x)
    return noisy(x, spec, how.jitter, rng)
