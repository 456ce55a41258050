"""Random views of a sample: what an encoder is to take for the same thing.

All of it is drawn from one `torch.Generator`, so the same generator gives the same views. The geometry of
images and series (crop, scale, rotation, shift) is one affine map and one `grid_sample` for the whole batch.
Flips are off: a mirrored letter is another letter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from niwaki.core.contract import DataSpec
from niwaki.nn.augment.config import Augment
from niwaki.nn.augment.images import view_clips, view_images
from niwaki.nn.augment.series import view_series
from niwaki.nn.augment.tokens import view_tokens
from niwaki.nn.augment.vectors import view_vectors
from niwaki.nn.layers.grids import ChannelsFirst, grid_of

__all__ = ["Augment", "augment", "differentiable_view"]

_OF_AMOUNTS = {0: view_vectors, 1: view_series, 2: view_images, 3: view_clips}
"""By the rank of the grid."""


def augment(x: Tensor, spec: DataSpec, how: Augment, rng: torch.Generator) -> Tensor:
    """A random view of every sample: `(n, *shape)` → the same shape; amounts float32 in [low, high], tokens
    whole numbers.

    rng: on the device of `x`
    Raises CallError for samples of more than three dimensions beside their channels.
    """
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        seen = differentiable_view(x, spec, how, rng)
        return seen if spec.is_tokens else seen.clamp(spec.low, spec.high)


def differentiable_view(x: Tensor, spec: DataSpec, how: Augment, rng: torch.Generator) -> Tensor:
    """As `augment`, with gradients with respect to `x`, and not clamped, which would stop them."""
    grid = grid_of(spec, "a random view")
    if spec.is_tokens:
        return view_tokens(x, spec, how, rng)
    order = ChannelsFirst(grid.at)
    return order.back(_OF_AMOUNTS[len(grid.sides)](order(x.float()), spec, how, rng))
