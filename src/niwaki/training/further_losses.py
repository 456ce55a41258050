"""Losses by name that are added to those of a model: `losses: [{call: latent_smoothness, weight: 0.1}]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from niwaki.core.contract import Batch, Context, Trainable
from niwaki.core.registry import import_modules

__all__ = ["FurtherLoss", "further_loss", "further_losses"]

FurtherLoss = Callable[[Trainable, Batch, Context], Tensor]
_KNOWN: dict[str, FurtherLoss] = {}


def further_loss(name: str) -> Callable[[FurtherLoss], FurtherLoss]:
    """Decorator: enter a function (model, batch, ctx) → scalar under a name, in a file of `penalties`."""

    def enter(function: FurtherLoss) -> FurtherLoss:
        _KNOWN[name] = function
        return function

    return enter


def further_losses() -> Mapping[str, FurtherLoss]:
    """By name."""
    import_modules("niwaki.training.penalties")
    return MappingProxyType(_KNOWN)
