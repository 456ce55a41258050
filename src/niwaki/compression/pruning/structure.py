"""What models have in common that differ in nothing but the values of their weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from niwaki.core.contract import GenerativeModel
from niwaki.core.store import hash_json
from niwaki.models.io import model_record

__all__ = ["structure_of"]

_PLAIN = (bool, int, float, str, type(None))


def structure_of(model: GenerativeModel) -> str:
    """A hash of what the model is built from, the edits it went through, and of every module its type, the
    shapes of its tensors and the numbers and words noted in it."""
    modules = [[name, type(m).__qualname__, _noted(m), _shapes(m)] for name, m in model.named_modules()]
    return hash_json([type(model).__qualname__, model_record(model), modules])


def _noted(module: nn.Module) -> list[Any]:
    values = {name: value for name, value in vars(module).items() if _is_plain(value)}
    return sorted((name, repr(value)) for name, value in values.items())


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(isinstance(one, _PLAIN) for one in value)
    return isinstance(value, _PLAIN)


def _shapes(module: nn.Module) -> list[Any]:
    held = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [(name, list(tensor.shape), str(tensor.dtype)) for name, tensor in held]
