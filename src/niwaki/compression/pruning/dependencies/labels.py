"""Who belongs to whom: labels that travel through a network beside its tensors.

Every position along an axis of a weight has a label of its own. An operation moves labels as it moves values
(a reshape, a concatenation), and joins those of positions that meet (a channel and the weights it is
multiplied with). What is joined in the end can only be cut together. The idea is that of dependency graphs
(Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023), with positions instead of layers as
nodes, so that nothing has to be guessed about reshapes, splits and concatenations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

__all__ = ["DependencyGraph", "Labels", "along", "axes", "collapsed", "moved", "product", "reduced", "tight"]


@dataclass
class Labels:
    """What is known of one tensor.

    units:  int64 fields, as many axes as the tensor; an axis of size 1 is one along which the labels do not
            change; 0 is no label. A weight has one field for what makes it and one for what it meets
    rows:   the same for stretches of units (heads), where an axis was split
    weight: whether it is made of parameters alone
    """

    units: list[Tensor] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    weight: bool = False

    def __bool__(self) -> bool:
        return bool(self.units or self.rows)

    def each(self, change: Callable[[Tensor], Tensor]) -> Labels:
        return Labels([change(f) for f in self.units], [change(f) for f in self.rows], self.weight)


class DependencyGraph:
    """All labels given out, and which of them depend on each other.

    same:   pairs that fall together
    across: pairs that fall together channel by channel, though not with whole stretches: what is one for all
            heads stays when a head goes
    within: pairs that fall together when whole stretches do
    grids:  matrices of labels whose rows must keep as many labels each
    norms:  the same for the groups of norms, which may be drawn anew where they must
    stuck:  labels that must stay, each with the reason
    made:   labels of weights that make channels or meet them
    """

    def __init__(self) -> None:
        self.size = 1
        self.same: list[Tensor] = []
        self.across: list[Tensor] = []
        self.within: list[Tensor] = []
        self.grids: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.stuck: list[tuple[Tensor, str]] = []
        self.made: list[Tensor] = []

    def new(self, count: int) -> Tensor:
        self.size += count
        return torch.arange(self.size - count, self.size)

    def join(self, a: Tensor, b: Tensor, edges: list[Tensor] | None = None) -> None:
        """Note that labels at equal places (after broadcasting) belong together."""
        a, b = torch.broadcast_tensors(a, b)
        pairs = torch.stack([a.flatten(), b.flatten()], 1)
        pairs = pairs[(pairs != 0).all(1) & (pairs[:, 0] != pairs[:, 1])]
        if len(pairs):
            pairs = torch.unique(pairs[:, 0] * 2**31 + pairs[:, 1])
            (self.same if edges is None else edges).append(pairs)

    def keep(self, labels: Labels, reason: str) -> None:
        self.stuck += [(f.flatten().unique(), reason) for f in labels.units]

    def grid(self, field: Tensor, axis: int) -> None:
        """The stretches along `axis` of a field keep as many labels each."""
        rows = field.movedim(axis, -1).reshape(-1, field.shape[axis])
        if len(rows) > 1 and rows.shape[1] > 1:
            self.grids.append(rows)

    def components(self, *, rows: bool = False) -> np.ndarray:
        """Number of the component of every label; with `rows`, of whole stretches."""
        edges = [*self.same, *(self.within if rows else self.across)]
        pairs = torch.cat(edges).numpy() if edges else np.empty(0, np.int64)
        ends = (np.ones(len(pairs), np.int8), (pairs >> 31, pairs & (2**31 - 1)))
        found: np.ndarray = connected_components(coo_matrix(ends, (self.size, self.size)), directed=False)[1]
        return found


def axes(field: Tensor) -> tuple[int, ...]:
    """Those along which the labels change."""
    return tuple(i for i, s in enumerate(field.shape) if s > 1)


def tight(field: Tensor) -> Tensor:
    """The same field with size 1 wherever nothing changes."""
    for axis, size in enumerate(field.shape):
        first = field.narrow(axis, 0, 1)
        if size > 1 and bool((field == first).all()):
            field = first
    return field


def along(field: Tensor, ndim: int, last: int | None = None) -> Tensor:
    """A field aligned as broadcasting aligns; with `last`, its axes end at that axis."""
    after = 0 if last is None else ndim - 1 - last
    return field.reshape((1,) * (ndim - field.ndim - after) + tuple(field.shape) + (1,) * after)


def moved(one: Labels, shape: Sequence[int], change: Callable[[Tensor], Tensor]) -> Labels:
    """Labels after an operation that only moves values. float64, since not every operation moves integers."""
    return one.each(lambda f: tight(change(f.expand(tuple(shape)).double().contiguous()).long()))


def _met(
    dependencies: DependencyGraph,
    mine: list[Tensor],
    other: list[Tensor],
    edges: list[Tensor],
    apart: set[tuple[int, ...]],
) -> list[Tensor]:
    """Fields that change along a common axis are joined; the others stand beside each other, and so do those
    that have but the axes of stretches in common (`apart`)."""
    out = list(mine)
    for f in other:
        best, most = None, 0.0
        for i, m in enumerate(mine):
            common = set(axes(f)) & set(axes(m))
            alike = axes(f) == axes(m)
            if not alike and (not common or tuple(sorted(common)) in apart):
                continue
            if best is None or len(common) - 0.1 * len(axes(m)) > most:
                best, most = i, len(common) - 0.1 * len(axes(m))
        if best is None:
            out.append(f)
            continue
        alike = axes(f) == axes(mine[best])
        dependencies.join(
            mine[best], f, edges if alike or edges is not dependencies.same else dependencies.across
        )
        a, b = torch.broadcast_tensors(out[best], f)
        out[best] = tight(torch.where(a != 0, a, b))
    return out


def product(dependencies: DependencyGraph, operands: Iterable[Labels], apart: tuple[int, ...] = ()) -> Labels:
    """Labels of an element-wise operation on aligned operands, of whatever kind.

    apart: axes that hold stretches (groups of a convolution): to have them in common joins nothing
    """
    operands = list(operands)
    found = Labels(weight=True)
    stretches = {axes(r) for one in operands for r in one.rows} | ({apart} if apart else set())
    for one in operands:
        found.units = _met(dependencies, found.units, one.units, dependencies.same, stretches)
        found.rows = _met(dependencies, found.rows, one.rows, dependencies.within, set())
        found.weight = found.weight and one.weight
    for row in found.rows:  # a table with one entry per head meets the heads
        for unit in found.units:
            if axes(row) == axes(unit):
                dependencies.join(row, unit, dependencies.within)
    return found


def reduced(one: Labels, gone: Iterable[int], *, keepdim: bool = False) -> Labels:
    """Labels after a sum over axes: what changed along them is used up."""
    gone = set(gone)

    def left(fields: list[Tensor]) -> list[Tensor]:
        kept = [f for f in fields if axes(f) and not gone & set(axes(f))]
        if keepdim:
            return kept
        return [f.reshape([s for i, s in enumerate(f.shape) if i not in gone]) for f in kept]

    return Labels(left(one.units), left(one.rows), one.weight)


def collapsed(dependencies: DependencyGraph, one: Labels, gone: Iterable[int]) -> Labels:
    """Labels that differ along these axes fall together: whoever looks at one place looks at all."""
    gone = tuple(gone)

    def flat(fields: list[Tensor], edges: list[Tensor]) -> list[Tensor]:
        out = []
        for f in fields:
            for axis in gone:
                if f.shape[axis] > 1:
                    dependencies.join(f, f.narrow(axis, 0, 1), edges)
                    f = f.amax(axis, keepdim=True)
            out.append(tight(f))
        return out

    return Labels(flat(one.units, dependencies.same), flat(one.rows, dependencies.within), one.weight)
