"""Equalized learning rate: weights are kept at variance 1 and scaled when they are used."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, register_parametrization

__all__ = ["Equalized", "clip_weights", "equalized"]

Layer = TypeVar("Layer", bound=nn.Conv2d | nn.Linear | nn.Embedding)


class Equalized(nn.Module):
    """θ → scale · θ."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale


def equalized(layer: Layer, gain: float = 1.0, *, rate: float = 1.0, bias: float = 0.0) -> Layer:
    """`layer` with normal weights θ of variance 1, used as gain / √inputs · θ (Karras et al. 2018,
    "Progressive Growing of GANs", Section 4.1): an optimizer that divides by a gradient's size then moves
    every layer by the same share, however many inputs it has.

    It stays a layer of its class, and `layer.weight` is what it computes with.

    rate: by which weights and bias learn faster than the others: 0.01 in a mapping network (Karras et al.
          2019). What the layer computes at first does not depend on it
    bias: what its bias starts at, where it has one
    """
    inputs = layer.weight[0].numel()
    with torch.no_grad():
        layer.weight.normal_(std=1 / rate)
    register_parametrization(layer, "weight", Equalized(gain * rate / math.sqrt(inputs)))
    if getattr(layer, "bias", None) is not None:
        with torch.no_grad():
            layer.bias.fill_(bias / rate)  # type: ignore[union-attr, operator]
        if rate != 1.0:
            register_parametrization(layer, "bias", Equalized(rate))
    return layer


@torch.no_grad()
def clip_weights(network: nn.Module, limit: float) -> None:
    """Bring every weight that the network computes with into ±limit, in place."""
    for module in network.modules():
        scaled = isinstance(module, ParametrizationList) and isinstance(module[0], Equalized)
        bound = limit / module[0].scale if scaled else limit  # type: ignore[index, union-attr]
        for p in module.parameters(recurse=False):
            p.clamp_(-bound, bound)  # type: ignore[arg-type]
