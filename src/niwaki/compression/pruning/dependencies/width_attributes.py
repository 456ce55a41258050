"""Numbers that a module noted when it was built and still goes by: found by trying, not by their names.

Heads and their widths in a reshape, a width that is checked, sizes of a split. Such a number was the width of
something that a cut makes narrower, or a whole part of it; a cut that fails with the old number and passes
with the new one says that it must follow.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from niwaki.compression.forward import outputs
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling, WidthAttribute
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.surgery.cuts import find, width
from niwaki.surgery.layouts import layout_of

__all__ = ["find_width_attributes"]

_UP = 2  # how far above a layer a module may be that goes by its width
_MOST = 64  # sets of numbers that are tried


def find_width_attributes(
    model: GenerativeModel, coupling: Coupling, passes: Callable[[Coupling], bool]
) -> Coupling | None:
    """The coupling with as few numbers to follow as let its cut pass; None where none do."""
    groups: dict[object, list[WidthAttribute]] = {}
    for f in _candidates(model, coupling):  # layers of one name in many blocks go together
        groups.setdefault((f.module.rpartition(".")[2], f.name, f.index, f.value), []).append(f)
    for chosen in itertools.islice(_sets(list(groups.values())), _MOST):
        one = replace(coupling, follows=tuple(f for group in chosen for f in group))
        if passes(one):
            return one
    return None


def _sets(groups: list[list[WidthAttribute]]) -> Iterator[tuple[list[WidthAttribute], ...]]:
    for size in range(1, len(groups) + 1):
        yield from itertools.combinations(groups, size)


def _candidates(model: GenerativeModel, coupling: Coupling) -> list[WidthAttribute]:
    """Numbers that the forward pass reads, and that were a width of the coupling or a part of one."""
    around = {p: w for p, w in _around(model, coupling).items() if not _known(model.get_submodule(p))}
    found: dict[tuple[str, str, int | None], WidthAttribute] = {}
    for path, read in _read(model, list(around)).items():
        for name, value, index in _numbers(model.get_submodule(path)):
            if name in read and value > 1 and _part(value, around[path], coupling):
                found.setdefault((path, name, index), WidthAttribute(path, name, value, index))
    return list(found.values())


def _read(model: GenerativeModel, paths: list[str]) -> dict[str, set[str]]:
    """The attributes of these modules that running the graphs looks at."""
    seen: dict[str, set[str]] = {}
    kept: list[tuple[nn.Module, type[nn.Module]]] = []
    for path in paths:
        module, read = model.get_submodule(path), seen.setdefault(path, set())
        kind = type(module)

        def look(self: nn.Module, name: str, read: set[str] = read, kind: type[nn.Module] = kind) -> Any:
            read.add(name)
            return kind.__getattribute__(self, name)

        kept.append((module, kind))
        module.__class__ = type(kind.__name__, (kind,), {"__getattribute__": look})
    try:
        outputs(model)
    finally:
        for module, kind in kept:
            module.__class__ = kind
    return seen


def _part(value: int, widths: set[int], coupling: Coupling) -> bool:
    """Whether the number is a width of the coupling, or its units or a block's a whole number of times."""
    each = coupling.units // coupling.blocks
    return any(
        w == value or (w % value == 0 and (value % coupling.units == 0 or (value % each == 0 and each > 1)))
        for w in widths
    )


def _numbers(module: nn.Module) -> Iterator[tuple[str, int, int | None]]:
    for name, value in vars(module).items():
        if type(value) is int:
            yield name, value, None
        elif isinstance(value, tuple | list):
            yield from ((name, one, i) for i, one in enumerate(value) if type(one) is int)


def _known(module: nn.Module) -> bool:
    """Whether what it notes is known, or cannot be changed."""
    if isinstance(module, torch.jit.ScriptModule):
        return True
    try:
        layout_of(module, "out")
    except NiwakiError:
        return False
    return True


def _around(model: nn.Module, coupling: Coupling) -> dict[str, set[int]]:
    """Modules that hold the coupling's layers or stand beside them, with the widths that are all its own."""
    found: dict[str, set[int]] = {}
    for member in coupling.members:
        total = width(find(model, member.module), member.side)
        if sum(map(len, member.positions)) != total:
            continue
        path = member.module
        for up in range(_UP + 1):
            path = path.rpartition(".")[0]
            beside = [f"{path}.{n}".lstrip(".") for n, _ in model.get_submodule(path).named_children()]
            for near in (path, *(beside if up == 0 else ())):  # a reshape may be a layer of its own
                found.setdefault(near, set()).add(total)
            if not path:
                break
    return found
