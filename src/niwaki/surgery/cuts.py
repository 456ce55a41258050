"""Pruning as data: which channels of which module stay. Cutting a fresh model by the same list rebuilds the
pruned one.

A cut names a module, a side (`out` or `in`) and the kept positions along it, counted in the module's widths
at the time of the cut. Modules with derived widths or masks offer `resize(side, keep)`; the layers of torch
are known here, each by the table of its tensors and axes (`niwaki.surgery.layouts`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from niwaki.core.contract import NiwakiError, nearest
from niwaki.surgery.layouts import Layout, layout_of

__all__ = ["Cut", "cut", "find", "owner_of", "per_position", "reorder", "resized", "scale", "width"]


@dataclass(frozen=True)
class Cut:
    """Keep the positions `keep` along one side of a module (or of a bare parameter, by its dotted name).

    module: dotted name, as in `named_modules()`; for a bare parameter or buffer as in `named_parameters()`
    side:   `out` or `in`; layers whose input and output are one and the same width (norms, depthwise
            convolutions, embeddings) have only `out`; a bare parameter or buffer takes the number of its axis
    keep:   rising positions, counted before this cut
    """

    module: str
    side: str
    keep: tuple[int, ...]

    kind: ClassVar[str] = "cut"

    def apply(self, model: nn.Module) -> None:
        cut(model, self)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "module": self.module, "side": self.side, "keep": list(self.keep)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Cut:
        return cls(record["module"], record["side"], tuple(record["keep"]))


def find(model: nn.Module, name: str) -> nn.Module | Tensor:
    """The submodule, the bare parameter or the buffer of that dotted name. Raises NiwakiError with the
    nearest name."""
    path, _, leaf = name.rpartition(".")
    try:
        holder = model.get_submodule(path)
        found = holder._modules.get(leaf, holder._parameters.get(leaf, holder._buffers.get(leaf)))
    except AttributeError:
        found = None
    if found is not None:
        return found
    hint = nearest(name, [n for n, _ in [*model.named_modules(), *model.named_parameters()] if n])
    raise NiwakiError(f"the model has no module '{name}' to cut; {hint}")


def owner_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a bare parameter, and the parameter's name in it."""
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def width(module: nn.Module | Tensor, side: str) -> int:
    """Positions along `side`. Raises NiwakiError for a module without such a side."""
    if isinstance(module, Tensor):
        return module.shape[_axis(module, side)]
    if callable(getattr(module, "resize", None)) and callable(getattr(module, "width", None)):
        return int(module.width(side))  # type: ignore[operator]
    return layout_of(module, side).width


def cut(model: nn.Module, one: Cut) -> None:
    """Resize one module in place; the kept slices of its weights stay as they are, bit for bit.

    A parameter that several modules share is cut in all of them at once, and stays shared.
    Raises NiwakiError for an unknown module or side, for positions that do not exist or do not rise, and for
    groups that would become unequal.
    """
    target = find(model, one.module)
    total = width(target, one.side)
    if not one.keep or list(one.keep) != sorted(set(one.keep)) or one.keep[0] < 0 or one.keep[-1] >= total:
        raise NiwakiError(
            f"a cut of '{one.module}' must keep rising positions within 0 … {total - 1} of side "
            f"'{one.side}', at least one"
        )
    keep = torch.tensor(one.keep, dtype=torch.long)
    if isinstance(target, Tensor):
        holder, leaf = owner_of(model, one.module)
        new = _selected(target, keep, _axis(target, one.side))
        setattr(holder, leaf, new)
        changed = [(target, new, _axis(target, one.side))]
    elif callable(getattr(target, "resize", None)):
        before = list(target.parameters())
        _refuse_shared(model, before, one.module)
        target.resize(one.side, one.keep)  # type: ignore[operator]
        changed = []
    else:
        changed = _cut_known(target, one, keep, {})
    for old, new, axis in changed:
        for name, module, leaf in list(_holders(model, old)):
            _cut_tied(name, module, leaf, axis, one, keep, {id(old): new})


Changed = list[tuple[Tensor, Tensor, int]]
"""Tensors before and after, with the axis of the cut."""


def _cut_known(target: nn.Module, one: Cut, keep: Tensor, done: dict[int, Tensor]) -> Changed:
    """Cut a layer of torch; tensors that another holder has had cut already are taken from `done`."""
    layout = layout_of(target, one.side)
    try:
        kept = layout.check(one.keep)
    except ValueError as error:
        raise NiwakiError(f"'{one.module}' ({type(target).__name__}) cannot be cut so: {error}") from None
    changed: Changed = []
    tensors = [*((n, axis, False) for n, axis in layout.tensors), *((n, 1, True) for n in layout.gathered)]
    for name, axis, local in tensors:
        value = getattr(target, name)
        if value is not None:
            made = _gathered(value, keep, layout) if local else _selected(value, keep, axis)
            setattr(target, name, done.get(id(value), made))
            changed.append((value, getattr(target, name), axis))
    for name, number in kept.items():
        setattr(target, name, number)
    return changed


def _cut_tied(
    name: str, module: nn.Module, leaf: str, axis: int, one: Cut, keep: Tensor, done: dict[int, Tensor]
) -> None:
    """Another holder of a cut parameter gets the same new one, and loses what goes with it."""
    for side in ("out", "in"):
        try:
            layout = layout_of(module, side)
        except NiwakiError:
            continue
        if (leaf, axis) in layout.tensors:
            _cut_known(module, Cut(name, side, one.keep), keep, done)
            return
    setattr(module, leaf, *done.values())


def _selected(value: Tensor, keep: Tensor, axis: int) -> Tensor:
    """`value` (parameter or buffer) at the kept positions of `axis`; a parameter stays one, trainable as
    before."""
    part = value.detach().index_select(axis, keep.to(value.device)).clone()
    return nn.Parameter(part, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else part


def _gathered(value: Tensor, keep: Tensor, layout: Layout) -> Tensor:
    """The axis of a grouped convolution that counts inside its group: each group keeps its own local
    positions."""
    g, local = layout.groups, layout.width // layout.groups
    where = (keep % local).reshape(g, -1).to(value.device)  # keep rises, and every group keeps as many
    rows = value.detach().unflatten(0, (g, -1))
    part = torch.stack([rows[j].index_select(1, where[j]) for j in range(g)]).flatten(0, 1).clone()
    return nn.Parameter(part, requires_grad=value.requires_grad)


def per_position(module: nn.Module | Tensor, side: str, value: Callable[[nn.Parameter], Tensor]) -> Tensor:
    """Σ of `value(parameter)` over all that belongs to each position of `side`: `(width,)`.

    value: an element-wise quantity with the parameter's own shape: p², p·∂L/∂p …
    """
    if isinstance(module, Tensor):
        if not isinstance(module, nn.Parameter):
            return torch.zeros(width(module, side), device=module.device)
        return value(module).movedim(_axis(module, side), 0).reshape(width(module, side), -1).sum(1)
    layout = layout_of(module, side)
    total = torch.zeros(layout.width, device=next(module.parameters(), torch.empty(0)).device)
    for name, axis in layout.tensors:
        parameter = getattr(module, name)
        if isinstance(parameter, nn.Parameter):
            total = total + value(parameter).movedim(axis, 0).reshape(layout.width, -1).sum(1)
    for name in layout.gathered:
        v = value(getattr(module, name)).unflatten(0, (layout.groups, -1)).flatten(3)
        total = total + v.sum((1, 3) if v.ndim == 4 else 1).flatten()
    return total


@torch.no_grad()
def scale(module: nn.Module | Tensor, side: str, factors: Tensor) -> None:
    """Multiply all that belongs to each position of `side` by its factor `(width,)`, in place; 0 makes it
    dead."""
    if isinstance(module, Tensor):
        if module.is_floating_point():
            module.movedim(_axis(module, side), -1).mul_(factors)
        return
    layout = layout_of(module, side)
    for name, axis in layout.tensors:
        parameter = getattr(module, name)
        if isinstance(parameter, nn.Parameter):
            parameter.movedim(axis, -1).mul_(factors)
    for name in layout.gathered:
        rows = getattr(module, name).unflatten(0, (layout.groups, -1))
        rows.mul_(factors.reshape(layout.groups, 1, -1, *[1] * (rows.ndim - 3)))


@torch.no_grad()
def reorder(module: nn.Module | Tensor, side: str, order: Sequence[int]) -> None:
    """Put position `order[i]` of `side` in place i, in place; groups of convolutions must stay among
    themselves."""
    index = torch.tensor(order, dtype=torch.long)
    if isinstance(module, Tensor):
        module.copy_(_selected(module, index, _axis(module, side)))
        return
    layout = layout_of(module, side)
    for name, axis in layout.tensors:
        value = getattr(module, name)
        if value is not None:
            value.copy_(_selected(value, index, axis))
    for name in layout.gathered:
        value = getattr(module, name)
        value.copy_(_gathered(value, index, layout))


def _axis(parameter: Tensor, side: str) -> int:
    if not side.isdigit() or int(side) >= parameter.ndim:
        raise NiwakiError(f"a bare parameter is cut along an axis 0 … {parameter.ndim - 1}, not '{side}'")
    return int(side)


def _holders(model: nn.Module, parameter: Tensor) -> Iterator[tuple[str, nn.Module, str]]:
    """Every (name, module, attribute) that holds this very parameter."""
    for name, module in model.named_modules():
        for leaf, value in module._parameters.items():
            if value is parameter:
                yield name, module, leaf


def _refuse_shared(model: nn.Module, own: Sequence[Tensor], name: str) -> None:
    """A module that resizes itself would silently untie what it shares."""
    if any(len(list(_holders(model, p))) > 1 for p in own):
        raise NiwakiError(f"'{name}' resizes itself and shares its weights, so it cannot be cut")


def resized(module: nn.Module, side: str, keep: Sequence[int]) -> nn.Module:
    """A copy of a module with a `resize` of its own, resized."""
    made = copy.deepcopy(module)
    made.resize(side, tuple(keep))  # type: ignore[operator]
    return made
