"""Rules of operations that move values: reshapes, splits, concatenations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from niwaki.compression.pruning.dependencies.labels import Labels, axes, moved, tight
from niwaki.compression.pruning.dependencies.rules import Follower, rule


@rule(
    "permute", "transpose", "t", "expand", "slice", "select", "squeeze", "unsqueeze", "flip", "roll",
    "repeat", "repeat_interleave", "index_select", "index", "gather", "pixel_shuffle",
    "pixel_unshuffle", "im2col", "reflection_pad1d", "reflection_pad2d", "replication_pad1d",
    "replication_pad2d", "as_strided", "unfold", "diagonal",
    "rot90", "take_along_dim", "unbind", "_pad_circular",
)  # fmt: skip
def _move(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    """The operation itself, done to the labels. Its first argument is what moves."""
    (first, value), *rest = a.items()
    more = dict(rest)
    parts = list(out) if isinstance(out, tuple | list) else [out]
    one = to.of(value)
    for i, part in enumerate(parts):

        def change(f: Tensor, i: int = i) -> Tensor:
            got = op(**{first: f}, **more)
            return got[i] if isinstance(got, tuple | list) else got

        to.note(part, moved(one, value.shape, change))


@rule("constant_pad_nd")
def _pad(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    value = a["self"]
    to.note(out, moved(to.of(value), value.shape, lambda f: torch.nn.functional.pad(f, a["pad"])))


@rule("split", "unsafe_split", "split_with_sizes", "unsafe_split_with_sizes", "chunk")
def _split(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    """Equal parts stay equal."""
    dim = a["dim"] % a["self"].ndim
    if len(out) > 1 and len({part.shape[dim] for part in out}) == 1:
        for f in to.of(a["self"]).units:
            if f.shape[dim] > 1:
                to.dependencies.grid(f.unflatten(dim, (len(out), -1)), dim + 1)
    _move(to, op, a, out)


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "unflatten", "flatten")
def _view(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    """Where one axis becomes several, its stretches keep as many labels each, or fall as a whole."""
    value, one = a["self"], to.of(a["self"])
    for before, after in _stretches(tuple(value.shape), tuple(out.shape)):
        if len(before) > 1 and len(after) == 1:
            _rectangular(to, one, before)
    made = moved(one, value.shape, lambda f: f.reshape(out.shape))
    for before, after in _stretches(tuple(value.shape), tuple(out.shape)):
        for f, was in zip(made.units, one.units, strict=True):
            split = [i for i in after if f.shape[i] > 1]
            if len(split) < 2 or len([i for i in before if was.shape[i] > 1]) != 1:
                continue
            to.dependencies.grid(f, split[-1])
            rows = to.dependencies.new(f.numel() // f.shape[split[-1]])
            rows = rows.reshape([1 if i == split[-1] else s for i, s in enumerate(f.shape)])
            to.dependencies.join(rows, f, to.dependencies.within)
            made.rows.append(rows)
    # Stretches that are as fine as units say nothing more.
    made.rows = [r for r in made.rows if all(axes(r) != axes(u) for u in made.units)]
    to.note(out, made)


def _rectangular(to: Follower, one: Labels, merged: list[int]) -> None:
    """Axes that become one in another order than they were split in (a shuffle of channels): every stretch
    must lose the same places, or what is left would stand in another order than its labels."""
    for f in one.units:
        for row in one.rows:
            thin = [i for i in axes(f) if i in merged and i not in axes(row)]
            for axis in axes(row):
                if axis in axes(f) and axis in merged and thin and axis > min(thin):
                    to.dependencies.join(f, f.narrow(axis, 0, 1))


@rule("native_channel_shuffle", "channel_shuffle")
def _shuffle(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    value = a["self"]
    for f in to.of(value).units:
        if f.shape[1] > 1:
            stretches = f.unflatten(1, (a["groups"], -1))
            to.dependencies.join(stretches, stretches.narrow(1, 0, 1))
    _move(to, op, a, out)


def _stretches(a: tuple[int, ...], b: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Axes of `a` and of `b` that hold the same values between them."""
    i = j = 0
    while i < len(a) or j < len(b):
        mine, other = ([i] if i < len(a) else []), ([j] if j < len(b) else [])
        i, j = i + len(mine), j + len(other)
        while (x := math.prod(a[k] for k in mine)) != (y := math.prod(b[k] for k in other)):
            if x < y:
                mine.append(i)
                i += 1
            else:
                other.append(j)
                j += 1
        yield mine, other


@rule("cat", "stack", "concat")
def _cat(to: Follower, op: Any, a: dict[str, Any], out: Any) -> None:
    """Along the axis labels stand behind each other; across it those that stand side by side are joined."""
    values = a["tensors"]
    known = [to.of(v) for v in values]
    dim = a["dim"] % out.ndim
    found = Labels(weight=all(k.weight for k in known))
    for kind, edges in (("units", to.dependencies.same), ("rows", to.dependencies.within)):
        slots = max(len(getattr(k, kind)) for k in known)
        for slot in range(slots):
            fields = [
                getattr(k, kind)[slot] if slot < len(getattr(k, kind)) else torch.zeros((1,) * v.ndim).long()
                for k, v in zip(known, values, strict=True)
            ]
            stacked = op._schema.name.endswith("stack")
            if stacked or not any(f.shape[dim] > 1 for f in fields):
                first = fields[0]
                for f in fields[1:]:
                    to.dependencies.join(first, f, edges)
                    first = torch.where(first != 0, first, f)
                made = first.unsqueeze(dim) if stacked else first
            else:
                made = torch.cat([f.expand(v.shape) for f, v in zip(fields, values, strict=True)], dim)
            getattr(found, kind).append(tight(made))
    to.note(out, found)
