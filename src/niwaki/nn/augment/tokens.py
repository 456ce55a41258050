"""Views of tokens: other ones stand in some places, and all may stand a little further on."""

from __future__ import annotations

import torch
from torch import Tensor

from niwaki.core.contract import DataSpec
from niwaki.nn.augment.config import Augment
from niwaki.nn.augment.draws import replaced, shifted, stretch, uniform

__all__ = ["view_tokens"]


def view_tokens(x: Tensor, spec: DataSpec, how: Augment, rng: torch.Generator) -> Tensor:
    """(n, *grid) → the same shape, whole numbers."""
    for axis in range(1, x.dim()):
        x = shifted(x, axis, round(how.shift * x.shape[axis]), rng)
    if how.cutout:
        flat = x.flatten(1)
        x = replaced(flat, lambda: stretch(flat.shape[1], how.cutout, len(x), rng), rng).view(x.shape)
    return replaced(x, lambda: uniform(x.shape, rng) < how.mask, rng) if how.mask else x
