"""Columns that are computed from the samples: what a model is led by where the data themselves lack it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from niwaki.core.contract import CallError, ValueSpec
from niwaki.core.registry import import_modules, unknown
from niwaki.data.columns import Column

__all__ = ["Derivation", "derivation_names", "derived_columns", "find_derivation", "register_derivation"]

Derivation = Callable[[Tensor, ValueSpec], Column]
"""Samples as a model sees them `(n, *shape)` and what they are → a column with a row for each, which depends
on that sample alone. Raises CallError for samples that it is not for."""

_ROWS = 4096  # at a time
_DERIVATIONS: dict[str, Derivation] = {}


def register_derivation(name: str) -> Callable[[Derivation], Derivation]:
    """Decorator: `data.derive: [name]` is this function's."""

    def enter(derive: Derivation) -> Derivation:
        _DERIVATIONS[name] = derive
        return derive

    return enter


def derivation_names() -> list[str]:
    """All registered derivations, the built-in ones loaded."""
    import_modules("niwaki.data.derivations")
    return sorted(_DERIVATIONS)


def find_derivation(name: str) -> Derivation:
    """Raises CallError with the nearest name where there is no such derivation."""
    known = derivation_names()
    if name not in known:
        raise unknown("derived column", name, known)
    return _DERIVATIONS[name]


def derived_columns(names: Sequence[str], columns: Mapping[str, Column]) -> dict[str, Column]:
    """The columns of those names, computed from the column `x`. Raises CallError for a name that is taken."""
    found: dict[str, Column] = {}
    for name in names:
        if name in columns or name in found:
            raise CallError(f"data.derive: the data have a column '{name}' already; leave one out")
        found[name] = _derived(find_derivation(name), columns["x"])
    return found


def _derived(derive: Derivation, x: Column) -> Column:
    """Piece by piece: samples as a model sees them take four times the room of stored levels."""
    parts = [derive(x.take(rows).values(), x.spec) for rows in torch.arange(len(x)).split(_ROWS)]
    return Column(parts[0].spec, torch.cat([part.data for part in parts]))
