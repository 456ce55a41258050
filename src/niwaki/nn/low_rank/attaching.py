"""Adapters put on layers and taken off again. A layer keeps its names: `weight` is stored as it was, and read
as the changed one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize

from niwaki.nn.low_rank.base import Adapter

__all__ = ["adaptable", "adapted", "attach", "is_adapter", "merge", "output_axis", "restart", "strip"]

_HELD = "_low_rank"
"""Attribute of a layer that holds its adapter."""


def is_adapter(name: str) -> bool:
    """Whether a parameter of this dotted name belongs to an adapter."""
    return name.rpartition(".")[2].startswith("lora_")


def adaptable(model: nn.Module) -> dict[str, nn.Module]:
    """Layers by dotted name that an adapter can be put on: those with a `weight` of two dimensions or more
    (linear layers and convolutions), which no other layer shares and nothing else computes. Tables of
    embeddings are looked up, not multiplied, and stay."""
    owners = Counter(
        id(p) for module in model.modules() for p in module._parameters.values() if p is not None
    )
    found = {}
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is None or weight.ndim < 2 or isinstance(module, nn.Embedding | nn.EmbeddingBag):
            continue
        if owners[id(weight)] == 1 and not parametrize.is_parametrized(module) and _HELD not in vars(module):
            found[name] = module
    return found


def output_axis(layer: nn.Module) -> int:
    """Axis of a layer's weight along which its outputs lie: the second of transposed convolutions, and of
    GPT-2's linear layers in transformers (`Conv1D`)."""
    return int(isinstance(layer, _ConvTransposeNd) or type(layer).__name__ == "Conv1D")


def attach(layers: Iterable[nn.Module], make: Callable[[int], Adapter], rng: torch.Generator) -> None:
    """Put an adapter on every layer. Their outputs stay as they are, bit for bit, until it is trained.

    make: an adapter, by the axis of the layer's outputs
    rng:  on the CPU; drawn from in the order of the layers
    """
    for layer in layers:
        weight: Any = layer._parameters["weight"]
        adapter = make(output_axis(layer))
        for name, parameter in adapter.parameters(weight, rng).items():
            layer.register_parameter(name, parameter)
        vars(layer)[_HELD] = adapter
        layer.__class__ = _reading(type(layer))  # type: ignore[arg-type]


def adapted(model: nn.Module) -> Iterator[tuple[str, nn.Module, Adapter]]:
    """Name, layer and adapter of every layer that has one."""
    for name, module in model.named_modules():
        if _HELD in vars(module):
            yield name, module, vars(module)[_HELD]


@torch.no_grad()
def restart(model: nn.Module) -> tuple[str, ...]:
    """Let the adapters follow weights that were replaced after they were put on; names of the parameters
    that this may have changed."""
    changed = []
    for name, layer, adapter in adapted(model):
        adapter.restart(layer)
        changed += [f"{name}.{n}" for n in layer._parameters if is_adapter(n)]
    return tuple(changed)


@torch.no_grad()
def merge(model: nn.Module) -> tuple[str, ...]:
    """Make what the adapters computed the weights themselves, and take the adapters off; names of these
    weights. The outputs stay as they are, bit for bit."""
    names = []
    for name, layer, adapter in list(adapted(model)):
        stored: Any = layer._parameters["weight"]
        stored.copy_(adapter.weight(layer))
        names.append(f"{name}.weight")
    strip(model)
    return tuple(names)


def strip(model: nn.Module) -> None:
    """Take the adapters off: the weights are again those that stayed."""
    for _, layer, _ in list(adapted(model)):
        del vars(layer)[_HELD]
        for name in [n for n in layer._parameters if is_adapter(n)]:
            del layer._parameters[name]
        layer.__class__ = type(layer).__bases__[0]


@cache
def _reading(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of layers whose `weight` is computed when it is read. A property of the class goes before
    what `nn.Module` stores by the same name."""

    def weight(layer: nn.Module) -> Tensor:
        adapter: Adapter = vars(layer)[_HELD]
        return adapter.weight(layer)

    return type(kind.__name__, (kind,), {"weight": property(weight), "__module__": kind.__module__})
