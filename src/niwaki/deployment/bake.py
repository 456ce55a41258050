"""A copy of a module as it will be exported: on the CPU, float32, nothing left that only training needs."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from niwaki.core.contract import NiwakiError
from niwaki.surgery.quantized import freeze, plain_weights, quantized_layers

__all__ = ["bake"]


def bake(module: nn.Module) -> nn.Module:
    """A copy in eval mode, float32, contiguous, on the CPU; weight and spectral norms are computed in it.

    A parametrized weight would otherwise be computed at every call on the device, and int8 could not store
    it. Modules with a method `fold_constants` compute there what follows from their weights alone. Quantized
    layers become integers and scales. Raises NiwakiError where the module cannot be copied.
    """
    try:
        copied = copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise NiwakiError(
            f"{type(module).__name__} cannot be copied for export ({error}); "
            "use torch.nn.utils.parametrizations for weight norms, and keep no tensors with history"
        ) from error
    copied = copied.cpu().float().eval()
    with torch.no_grad():
        for part in list(copied.modules()):
            if parametrize.is_parametrized(part):
                plain_weights(part)
        for layer in quantized_layers(copied).values():
            freeze(layer)
        for part in copied.modules():
            fold = getattr(part, "fold_constants", None)
            if callable(fold):
                fold()
        for p in copied.parameters():
            p.requires_grad_(False)
            p.data = p.data.contiguous()
    return copied
