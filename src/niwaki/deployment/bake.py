"""A copy of a module as it will be exported: on the CPU, float32, nothing left that only training needs."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from niwaki.contract import NiwakiError

__all__ = ["bake"]


def bake(module: nn.Module) -> nn.Module:
    """A copy in eval mode, float32, contiguous, on the CPU; weight and spectral norms are computed in it.

    A parametrized weight would otherwise be computed at every call on the device, and int8 could not store
    it. Raises NiwakiError where the module cannot be copied.
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
                # Original and copy share a class made for them, from which the weight would vanish for both.
                made = type(part)
                own = {k: v for k, v in vars(made).items() if k not in ("__dict__", "__weakref__")}
                part.__class__ = type(made.__name__, made.__bases__, own)
                names = list(part.parametrizations)  # type: ignore[arg-type]
                for name in names:
                    parametrize.remove_parametrizations(part, name, leave_parametrized=True)
        for p in copied.parameters():
            p.requires_grad_(False)
            p.data = p.data.contiguous()
    return copied
