"""How far pictures lie apart in the layers of a network that has learned to look at them, as a loss."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["perceptual_distance"]


def perceptual_distance(network: nn.Sequential, x: Tensor, made: Tensor) -> Tensor:
    """Mean over layers of ‖y − y'‖², the features y of every place brought to length 1 (Zhang et al. 2018,
    "LPIPS", Equation 1, with w = 1), a scalar. Gradients reach `made` alone.

    network: convolutions, each followed by a ReLU, after which it is looked at
    x, made: `(n, C, H, W)`
    """
    with torch.no_grad():
        wanted = list(_layers(network, x))
    each = [(a - b).square().sum(1).mean() for a, b in zip(wanted, _layers(network, made), strict=True)]
    return torch.stack(each).mean()


def _layers(network: nn.Sequential, x: Tensor) -> Iterator[Tensor]:
    """Maps `(n, k, h, w)` after every ReLU, each place of length 1."""
    for layer in network:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            yield nn.functional.normalize(x.float(), dim=1, eps=1e-6)
        if isinstance(layer, nn.Flatten):
            return
