"""Which channels can only be cut together: the labels of all graphs of a model, gathered into couplings.

Nothing that is found here is believed before `niwaki.compression.pruning.trial` has tried it.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from niwaki.compression.pruning.dependencies.labels import DependencyGraph
from niwaki.compression.pruning.dependencies.tracing import Side, Traced, trace
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.surgery.attributes import SetAttribute
from niwaki.surgery.cuts import Cut, find, width
from niwaki.surgery.edits import Edit

__all__ = ["Coupling", "Member", "WidthAttribute", "couplings", "cuts_of", "merge_couplings"]

_FAILURES = (RuntimeError, ValueError, AssertionError, AttributeError, IndexError, TypeError, KeyError)


@dataclass(frozen=True)
class Member:
    """One side of one layer in a coupling: unit u owns the positions `positions[u]` of it."""

    module: str
    side: str
    positions: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class WidthAttribute:
    """A number noted in a module that must change in proportion to a coupling's units; `value` is today's."""

    module: str
    name: str
    value: int
    index: int | None = None

    def now(self, model: nn.Module) -> WidthAttribute:
        """With the value that `model` has."""
        kept = vars(model.get_submodule(self.module))[self.name]
        return replace(self, value=kept if self.index is None else kept[self.index])


@dataclass(frozen=True)
class Coupling:
    """Layers whose channels stand and fall together.

    units:    how many channels (or heads) can be chosen between
    blocks:   equal stretches of units that must each keep the same number (grouped convolutions, group norms)
    protected: why it must keep its width; empty where it may be cut
    multiple: a width that norms over groups can divide
    size:     channels per unit: 1, or those of a head
    ordinal:  which of the couplings that begin in the same layer
    follows:  numbers in modules that change in proportion
    exact:    on trial, cutting dead units changed nothing at all
    strict:   its channels are counted in stretches somewhere (heads, groups): only an exact trial shows that
              a cut leaves the borders where they are
    parts:    keys of the couplings that were put together, since they must keep as many units each
    """

    units: int
    members: tuple[Member, ...]
    blocks: int = 1
    protected: str = ""
    multiple: int = 1
    size: int = 1
    ordinal: int = 0
    follows: tuple[WidthAttribute, ...] = ()
    exact: bool = False
    strict: bool = False
    parts: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Names the coupling across rounds of pruning: widths change, the layers in it do not."""
        if self.parts:
            return " + ".join(self.parts)
        first = min(self.members, key=lambda m: (m.side != "out", m.module))
        heads = " (heads)" if self.size > 1 else ""
        return f"{first.module}:{first.side}" + (f"#{self.ordinal}" if self.ordinal else "") + heads

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(m.module for m in self.members))

    @property
    def around(self) -> str:
        """The innermost module that holds all of its layers."""
        paths = [m.module.split(".") for m in self.members]
        common = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
        return ".".join(parts[0] for parts in common)

    def overlaps(self, other: Coupling) -> bool:
        mine = {(m.module, m.side, p) for m in self.members for u in m.positions for p in u}
        return any((m.module, m.side, p) in mine for m in other.members for u in m.positions for p in u)


def merge_couplings(parts: list[Coupling]) -> Coupling:
    """Couplings that must keep as many units each, as one. Their blocks stay as large as they are."""
    places: dict[Side, list[tuple[int, ...]]] = {}
    total = sum(c.units for c in parts)
    at = 0
    for part in parts:
        for m in part.members:
            places.setdefault((m.module, m.side), [()] * total)[at : at + part.units] = m.positions
        at += part.units
    members = tuple(Member(*side, tuple(positions)) for side, positions in places.items())
    blocks = sum(c.blocks for c in parts)
    multiple = math.lcm(blocks, *(c.multiple // c.blocks * blocks for c in parts))
    keys = tuple(c.key for c in parts)
    strict = any(c.strict for c in parts)
    return Coupling(total, members, blocks, multiple=multiple, size=parts[0].size, strict=strict, parts=keys)


def couplings(model: GenerativeModel, *, heads: bool = False) -> list[Coupling]:
    """All couplings of the layers that sampling uses; those that must keep their width with the reason.

    heads: the couplings of whole heads instead (stretches of an axis that is split), where there are any
    Raises NiwakiError where the model cannot be traced.
    """
    try:
        traced = trace(copy.deepcopy(model).cpu().eval())
    except _FAILURES as error:
        raise NiwakiError(
            f"the model cannot be traced for pruning: {type(error).__name__}: {error}"
        ) from error
    return _Gathering(traced, heads=heads).couplings()


class _Gathering:
    """From components of labels to couplings of positions."""

    def __init__(self, traced: Traced, *, heads: bool) -> None:
        self.dependencies: DependencyGraph = traced.dependencies
        fine = self.dependencies.components()
        self.of = self.dependencies.components(rows=True) if heads else fine
        self.of[0] = -1  # no label
        self.heads, self.fine = heads, fine
        self.places: dict[int, dict[Side, list[int]]] = {}
        for side, nodes in traced.sides.items():
            for position, unit in enumerate(self.of[nodes.numpy()]):
                self.places.setdefault(int(unit), {}).setdefault(side, []).append(position)
        self.stuck: dict[int, str] = {}
        for labels, reason in self.dependencies.stuck:
            for unit in np.unique(self.of[labels.numpy()]):
                self.stuck.setdefault(int(unit), reason)

    def couplings(self) -> list[Coupling]:
        made = {int(u) for f in self.dependencies.made for u in np.unique(self.of[f.numpy()])} - {-1}
        alike: dict[object, list[int]] = {}
        for unit in sorted(made & self.places.keys(), key=self._first):
            seen = self.places[unit]
            alike.setdefault(tuple(sorted((s, len(p)) for s, p in seen.items())), []).append(unit)
        groups = list(alike.values())
        grids = list(self._grids(self.dependencies.grids))
        for rows in grids:
            inside = {u for row in rows for u in row}
            met = [g for g in groups if inside & set(g)]
            if len(met) > 1:
                groups = [g for g in groups if not any(g is m for m in met)] + [[u for m in met for u in m]]
        found = [self._coupling(g, grids, alike) for g in groups if not self.heads or self._coarse(g)]
        seen_keys: Counter[str] = Counter()
        out = []
        for one in sorted(found, key=lambda c: c.key):
            out.append(replace(one, ordinal=seen_keys[one.key]))
            seen_keys[one.key] += 1
        return out

    def _first(self, unit: int) -> tuple[str, str, int]:
        side, positions = min(self.places[unit].items(), key=lambda p: (p[0][1] != "out", p[0][0]))
        return (*side, positions[0])

    def _coarse(self, group: list[int]) -> bool:
        """Whether a unit of whole stretches holds several channels."""
        nodes = np.flatnonzero(self.of == group[0])
        return len(np.unique(self.fine[nodes])) > 1

    def _grids(self, matrices: Iterable[torch.Tensor]) -> Iterable[list[set[int]]]:
        """Rows of units, where they say something: rows that fall as a whole, or all alike, do not."""
        seen = set()
        for matrix in matrices:
            rows = [frozenset(int(u) for u in row) - {-1} for row in self.of[matrix.numpy()]]
            if max(map(len, rows)) > 1 and len(set(rows)) > 1 and tuple(rows) not in seen:
                seen.add(tuple(rows))
                yield [set(r) for r in rows]

    def _coupling(
        self, group: list[int], grids: list[list[set[int]]], alike: dict[object, list[int]]
    ) -> Coupling:
        mine = set(group)
        kind = {u: i for i, units in enumerate(alike.values()) for u in units}
        binding = [rows for rows in grids if any(mine & row for row in rows)]
        strict = bool(binding) or self.heads
        multiple = 1
        for rows in self._grids(self.dependencies.norms):
            inside = [row & mine for row in rows]
            held = sum(map(len, inside))
            if held == len(mine) and all(len(r) == len(inside[0]) for r in inside) and len(inside[0]) >= 4:
                binding.append(rows)
            elif held:
                multiple = math.lcm(multiple, _divisor(len(mine), len(rows)))
        cells: dict[object, list[int]] = {}
        for unit in group:
            rows_of = tuple(
                (i, j) for i, rows in enumerate(binding) for j, row in enumerate(rows) if unit in row
            )
            cells.setdefault((kind[unit], rows_of), []).append(unit)
        size = math.gcd(*map(len, cells.values()))
        ordered = [u for cell in cells.values() for u in cell]
        blocks = len(ordered) // size
        reason = next((self.stuck[u] for u in ordered if u in self.stuck), "")
        if size < 2:
            reason = reason or (
                "it has one channel" if len(ordered) == 1 else "its channels cannot be thinned evenly"
            )
        sides = dict.fromkeys(s for u in ordered for s in self.places[u])
        members = tuple(
            Member(*side, tuple(tuple(self.places[u].get(side, ())) for u in ordered)) for side in sides
        )
        each = max((len(p) for m in members for p in m.positions), default=1) if self.heads else 1
        multiple = math.lcm(multiple, blocks)
        return Coupling(len(ordered), members, blocks, reason, multiple, max(each, 1), strict=strict)


def _divisor(units: int, groups: int) -> int:
    """Groups that a norm may be left with when its channels are thinned: wide ones, of which some remain."""
    return max(
        (d for d in range(1, groups + 1) if groups % d == 0 and units % d == 0 and units // d >= 4), default=1
    )


def cuts_of(model: nn.Module, removed: list[tuple[Coupling, tuple[int, ...]]]) -> tuple[Edit, ...]:
    """One cut per layer and side that takes the `removed` units of all couplings away at once, and the noted
    numbers that follow.

    Raises NiwakiError where a number would not stay whole.
    """
    gone: dict[Side, set[int]] = {}
    numbers: list[Edit] = []
    for coupling, units in removed:
        for member in coupling.members:
            lost = gone.setdefault((member.module, member.side), set())
            for u in units:
                lost.update(member.positions[u])
        for one in coupling.follows:
            left, rest = divmod(one.value * (coupling.units - len(units)), coupling.units)
            if rest:
                raise NiwakiError(f"'{one.module}.{one.name}' would not stay a whole number")
            numbers.append(SetAttribute(one.module, one.name, left, one.index))
    cuts = []
    for (module, side), lost in gone.items():
        if lost:
            total = width(find(model, module), side)
            cuts.append(Cut(module, side, tuple(i for i in range(total) if i not in lost)))
    return (*cuts, *numbers)
