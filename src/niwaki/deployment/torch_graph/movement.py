"""Operators that move values, and change none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import NiwakiError
from niwaki.deployment.torch_graph.operators import Given, operator

_FAR = 1 << 30


@operator("Concat")
def _concat(given: Given) -> Callable[..., Tensor]:
    axis = int(given.attributes["axis"])
    return lambda *x: torch.cat(x, axis)


@operator("Transpose")
def _transpose(given: Given) -> Callable[..., Tensor]:
    order = given.attributes.get("perm")
    return lambda x: x.permute(*(order or reversed(range(x.ndim))))


@operator("Gather")
def _gather(given: Given) -> Callable[..., Tensor]:
    axis = int(given.attributes.get("axis", 0))
    table, places = given.constants
    if axis == 0 and table is not None and table.ndim == 2 and places is None:
        # Rows by labels: every converter has a table for them. Labels count from 0.
        return lambda x, index: torch.nn.functional.embedding(index, x)

    def gathered(x: Tensor, index: Tensor) -> Tensor:
        places = torch.where(index < 0, index + x.shape[axis], index).long()
        rows = torch.index_select(x, axis, places.reshape(-1))
        before, after = x.shape[: axis % x.ndim], x.shape[axis % x.ndim + 1 :]
        return rows.reshape(*before, *index.shape, *after)

    return gathered


@operator("GatherElements")
def _gather_elements(given: Given) -> Callable[..., Tensor]:
    axis = int(given.attributes.get("axis", 0))
    return lambda x, index: torch.gather(x, axis, index.long())


@operator("Slice", first_alone=True)
def _slice(given: Given) -> Callable[..., Tensor]:
    starts, ends = given.ints(1), given.ints(2)
    axes = given.ints(3, list(range(len(starts))))
    steps = given.ints(4, [1] * len(starts))

    def sliced(x: Tensor) -> Tensor:
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            if step < 0:
                places = list(range(x.shape[axis]))[slice(start, None if end < -_FAR else end, step)]
                x = torch.index_select(x, axis, torch.tensor(places))
            else:
                length = x.shape[axis]
                begin, stop = (max(0, v + length) if v < 0 else min(v, length) for v in (start, end))
                x = x.narrow(axis, begin, max(0, stop - begin))
                if step > 1:
                    x = torch.index_select(x, axis, torch.arange(0, x.shape[axis], step))
        return x

    return sliced


@operator("Split", first_alone=True)
def _split(given: Given) -> Callable[..., Any]:
    axis = int(given.attributes.get("axis", 0))
    sizes = [shape[axis] for shape in given.shapes]
    return lambda x: torch.split(x, sizes, axis)


@operator("Expand", first_alone=True)
def _expand(given: Given) -> Callable[..., Tensor]:
    shape = given.shapes[0]
    return lambda x: x.expand(shape).clone()


@operator("Pad", first_alone=True)
def _pad(given: Given) -> Callable[..., Tensor]:
    mode, pads = given.attributes.get("mode", "constant"), given.ints(1)
    value, axes = given.number(2) or 0.0, given.ints(3, list(range(len(pads) // 2)))
    if mode not in ("constant", "reflect", "edge"):
        raise NiwakiError(f"padding by '{mode}' has no form in torch")

    def padded(x: Tensor) -> Tensor:
        by_axis = dict.fromkeys(range(x.ndim), (0, 0))
        for k, axis in enumerate(axes):
            by_axis[axis % x.ndim] = (pads[k], pads[k + len(axes)])
        widths = [by_axis[axis] for axis in range(x.ndim)]
        while mode != "constant" and len(widths) > 1 and widths[0] == (0, 0) and len(widths) > x.ndim - 2:
            widths = widths[1:]  # torch reflects the last axes alone
        flat = [v for pair in reversed(widths) for v in pair]
        if mode == "constant":
            return torch.nn.functional.pad(x, flat, "constant", value)
        return torch.nn.functional.pad(x, flat, "replicate" if mode == "edge" else mode)

    return padded


@operator("DepthToSpace")
def _depth_to_space(given: Given) -> Callable[..., Tensor]:
    size = int(given.attributes["blocksize"])
    if given.attributes.get("mode", "DCR") == "CRD":
        return lambda x: torch.nn.functional.pixel_shuffle(x, size)

    def spread(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(n, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return y.reshape(n, c // size**2, h * size, w * size)

    return spread
