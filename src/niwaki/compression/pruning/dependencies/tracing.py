"""Running every graph of a model once, with labels beside its tensors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from niwaki.compression.pruning.dependencies import moves, products  # noqa: F401  they register their rules
from niwaki.compression.pruning.dependencies.labels import DependencyGraph, Labels, axes, tight
from niwaki.compression.pruning.dependencies.rules import follow
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.surgery.cuts import resized, width
from niwaki.surgery.layouts import Layout, layout_of

__all__ = ["Traced", "trace"]

Side = tuple[str, str]
"""A module (or a bare parameter or buffer) and one of its sides, as a `Cut` names them."""


class Traced(TorchDispatchMode):
    """The labels of all tensors that an operation has met. `sides` says whose the labels are.

    sides: (module, side) → its labels, one per position
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.dependencies = DependencyGraph()
        self.sides: dict[Side, Tensor] = {}
        self.known: dict[int, tuple[Tensor, Labels]] = {}  # the tensor too: a freed one's id would come again
        self.counted: dict[nn.Module, tuple[Tensor, int]] = {}
        for name, module in model.named_modules():
            self._label(name, module)
            if isinstance(module, torch.jit.ScriptModule):
                for value in [*module._parameters.values(), *module._buffers.values()]:
                    self.dependencies.keep(
                        self.of(value), "it lies in TorchScript, whose layers cannot be changed"
                    )

    def _meet(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """A norm without weights still counts the channels that it meets."""
        nodes, axis = self.counted[module]
        for f in self.of(inputs[0] if inputs else None).units:
            if f.shape[axis] > 1:
                self.dependencies.join(_on_axis(nodes, f.ndim, axis), f)

    def of(self, value: Any) -> Labels:
        return self.known[id(value)][1] if id(value) in self.known else Labels()

    def note(self, value: Tensor, labels: Labels) -> None:
        self.known[id(value)] = (value, labels)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = op(*args, **(kwargs or {}))
        follow(self, op, args, kwargs or {}, out)
        return out

    def _label(self, name: str, module: nn.Module) -> None:
        """Give every position of every side a label, and the tensors fields of them."""
        fields: dict[str, list[Tensor]] = {}
        for side, layout in _layouts(module).items():
            nodes = self._side(name, side, layout.width)
            if all(getattr(module, leaf) is None for leaf, _ in layout.tensors):
                shape = getattr(module, "normalized_shape", None)
                self.counted[module] = (nodes, 1 if shape is None else -len(shape))
                module.register_forward_pre_hook(self._meet)
            for leaf, axis in layout.tensors:
                value = getattr(module, leaf)
                if value is not None:
                    fields.setdefault(leaf, []).append(_on_axis(nodes, value.ndim, axis))
            for leaf in layout.gathered:
                value = getattr(module, leaf)
                f = nodes.reshape(layout.groups, 1, -1).expand(-1, len(value) // layout.groups, -1)
                fields.setdefault(leaf, []).append(f.flatten(0, 1)[..., *[None] * (value.ndim - 2)])
        for leaf, value in [*module._parameters.items(), *module._buffers.items()]:
            if value is None or value.layout != torch.strided:
                continue
            if leaf not in fields:
                path = f"{name}.{leaf}".lstrip(".")
                wide = [i for i, s in enumerate(value.shape) if s > 1]
                fields[leaf] = [
                    _on_axis(self._side(path, str(i), value.shape[i]), value.ndim, i) for i in wide
                ]
            mine = [tight(f) for f in fields[leaf]]
            tied = self.of(value).units
            self.note(value, Labels(self._tied(tied, mine), weight=True))
            if tied:  # the first holder's cut is everybody's
                again = [f for f in mine if self._meets(tied, f)]
                for whose in [s for s in self.sides if s[0] in (name, f"{name}.{leaf}".lstrip("."))]:
                    if any(bool(torch.isin(self.sides[whose], f).any()) for f in again):
                        del self.sides[whose]

    def _meets(self, tied: list[Tensor], mine: Tensor) -> bool:
        return any(set(axes(t)) & set(axes(mine)) for t in tied)

    def _tied(self, tied: list[Tensor], mine: list[Tensor]) -> list[Tensor]:
        """Fields of a parameter with two holders: places along its axes are the same places."""
        for f in mine:
            for t in tied:
                if set(axes(t)) & set(axes(f)):
                    self.dependencies.join(t, f)
        return [*tied, *(f for f in mine if not self._meets(tied, f))]

    def _side(self, name: str, side: str, count: int) -> Tensor:
        self.sides[name, side] = self.dependencies.new(count)
        return self.sides[name, side]


def _layouts(module: nn.Module) -> dict[str, Layout]:
    """The sides of a layer that is known, by name; what has but one width has but one side."""
    if callable(getattr(module, "resize", None)) and callable(getattr(module, "width", None)):
        return {side: _probed(module, side) for side in ("out", "in")}
    found: dict[str, Layout] = {}
    for side in ("out", "in"):
        try:
            layout = layout_of(module, side)
        except NiwakiError:
            continue
        if not any(layout.tensors == other.tensors for other in found.values()):
            found[side] = layout
    return found


def _probed(module: Any, side: str) -> Layout:
    """Which tensors of a module with a `resize` of its own lose a slice when it is narrowed by one."""
    total = width(module, side)
    less = resized(module, side, tuple(range(total - 1)))
    tensors = []
    for leaf, value in [*module._parameters.items(), *module._buffers.items()]:
        after = getattr(less, leaf)
        if value is not None:
            tensors += [
                (leaf, i) for i, (a, b) in enumerate(zip(value.shape, after.shape, strict=True)) if a == b + 1
            ]
    return Layout(total, tuple(tensors), lambda keep: {})


def _on_axis(nodes: Tensor, ndim: int, axis: int) -> Tensor:
    return nodes.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])


def trace(model: GenerativeModel) -> Traced:
    """Run every graph of `model` on its example. What meets an input or an output must stay; a state is as
    wide as what is written into it.

    model: a copy on the CPU in eval mode, which is not used afterwards (hooks stay on it)
    Raises whatever the model raises.
    """
    traced = Traced(model)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_plain())
        for graph in model.shipped_graphs().values():
            inputs = graph.example(2)
            for k, value in enumerate(inputs):
                if value.is_floating_point():
                    fields = [
                        _on_axis(traced.dependencies.new(s), value.ndim, i)
                        for i, s in enumerate(value.shape)
                        if s > 1
                    ]
                    traced.note(value, Labels(fields[1:] if value.shape[0] == 2 else fields))
                    if k < len(graph.inputs):
                        traced.dependencies.keep(traced.of(value), "it meets an input of a graph")
            with traced:
                out = graph(*inputs)
            for value in [*_flat(out)][: len(graph.outputs)]:
                traced.dependencies.keep(traced.of(value), "it makes an output of a graph")
    return traced


def _flat(out: Any) -> Iterator[Tensor]:
    yield from out if isinstance(out, tuple | list) else (out,)


def _plain() -> ExitStack:
    """Operations spelled out: no fused attention, no fused recurrent layers."""
    stack = ExitStack()
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it speaks of another make's hardware
        stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
    return stack
