"""Nothing is left out of a student while its teacher speaks.

Dropout blurs what a network says; the teacher, in eval mode, is sharp. A student that answers it through
dropout learns to make up for the blur, and is too sure once nothing is left out any more: even a copy of the
teacher would get worse. Soft targets regularise by themselves (Hinton et al. 2015).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

__all__ = ["without_dropout"]


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Every probability of leaving something out is 0 until the end: of dropout layers, and what other layers
    note as some `dropout` (attention, recurrent networks)."""
    kept = [(m, name, value) for m in model.modules() for name, value in vars(m).items() if _is_one(m, name)]
    for module, name, _ in kept:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


def _is_one(module: nn.Module, name: str) -> bool:
    named = name == "p" if isinstance(module, _DropoutNd) else "dropout" in name
    return named and isinstance(vars(module)[name], float)
