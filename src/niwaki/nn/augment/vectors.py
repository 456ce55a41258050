"""Views of vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from niwaki.core.contract import DataSpec
from niwaki.nn.augment.config import Augment
from niwaki.nn.augment.draws import level, normal, replaced, uniform

__all__ = ["view_vectors"]


def view_vectors(x: Tensor, spec: DataSpec, how: Augment, rng: torch.Generator) -> Tensor:
    """(n, d) → the same shape."""
    if how.mask:
        x = replaced(x, lambda: uniform(x.shape, rng) < how.mask, rng)
    if how.jitter and len(x) > 1:
        x = x + level(how.jitter, x, rng) * x.std(0) * normal(x.shape, rng)
    return x
