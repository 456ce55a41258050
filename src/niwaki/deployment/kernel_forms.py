"""Two exact forms of a convolution with a kernel for every sample, without groups that follow the batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.fx import Node

from niwaki.deployment.graph_writer import Writer, aten, shape_of
from niwaki.deployment.kernel_factors import Factors, product_of

__all__ = ["Geometry", "patch_products", "shared_kernel"]


@dataclass(frozen=True)
class Geometry:
    """A convolution's settings, one group seen alone.

    into, out: channels
    padding:   zeros before and after, along each axis
    extra:     what a transposed one adds at the end of each axis
    """

    into: int
    out: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    extra: tuple[int, ...]
    transposed: bool


_PLAIN = (None, aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
_TRANSPOSED: Any = (
    None,
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
)


def shared_kernel(write: Writer, x: Node, found: Factors, exchanged: bool, form: Geometry) -> Node:
    """d · conv(s · x, W) for `x` `(groups, in, *size)`: `(groups, out, *places)`.

    exchanged: whether the factors have the two channels the other way round than the kernel
    """
    across = len(form.kernel)
    pair = (form.into, form.out) if form.transposed != exchanged else (form.out, form.into)
    base = product_of(write, found.base, x)
    base = write(aten.expand.default, base, [1, *pair, *form.kernel])
    base = write(aten.reshape.default, base, [*pair, *form.kernel])
    if exchanged:
        base = write(aten.transpose.int, base, 0, 1)
    if found.flipped:
        base = write(aten.flip.default, base, sorted(found.flipped))
    axis = 1 if form.transposed != exchanged else 2  # of the channels that go in
    x = _scale(write, x, found.scales[axis], across)
    pads = [before for before, _ in form.padding]
    stride, dilation = list(form.stride), list(form.dilation)
    if form.transposed:
        y = write(_TRANSPOSED[across], x, base, None, stride, pads, list(form.extra), 1, dilation)
    else:
        if any(before != after for before, after in form.padding):
            x, pads = _padded(write, x, form.padding), [0] * across
        y = write(_PLAIN[across], x, base, None, stride, pads, dilation, 1)
    return _scale(write, y, found.scales[3 - axis], across)


def _flat(padding: Sequence[tuple[int, int]]) -> list[int]:
    """As torch wants it: the last axis first."""
    return [p for pair in reversed(padding) for p in pair]


def _scale(write: Writer, x: Node, scales: Sequence[tuple[Node, bool]], across: int) -> Node:
    """`x` `(groups, channels, *size)` times what scales its channels."""
    for value, divides in scales:
        factor = write(aten.reshape.default, value, [-1, math.prod(shape_of(value)[1:])] + [1] * across)
        x = write(aten.div.Tensor if divides else aten.mul.Tensor, x, factor)
    return x


def patch_products(write: Writer, x: Node, weight: Node, rows: int, form: Geometry) -> Node:
    """One matrix product per group, `(out, in · k)` with the patches `(in · k, places)`, for `x`
    `(rows · groups, in, *size)`: `(rows · groups, out, *places)`."""
    offsets = list(itertools.product(*map(range, form.kernel)))
    padding, stride, meets = form.padding, form.stride, len(offsets)
    if form.transposed:
        # conv_transpose(x, w) = conv(x with zeros between its values, w turned round).
        x = _apart(write, x, stride)
        reach = [d * (k - 1) for k, d in zip(form.kernel, form.dilation, strict=True)]
        padding = tuple((r - p, r - p + e) for r, (p, _), e in zip(reach, padding, form.extra, strict=True))
        stride = (1,) * len(form.kernel)
        weight = write(aten.reshape.default, weight, [-1, form.into, form.out, meets])
        weight = write(aten.permute.default, weight, [0, 2, 1, 3])
        offsets.reverse()
    matrix = write(aten.reshape.default, weight, [-1, form.out, form.into * meets])
    x = _padded(write, x, padding)
    places = [
        (s - d * (k - 1) - 1) // t + 1
        for s, k, d, t in zip(shape_of(x)[2:], form.kernel, form.dilation, stride, strict=True)
    ]
    cut = []
    for offset in offsets:
        part = x
        for axis, (o, d, t, m) in enumerate(zip(offset, form.dilation, stride, places, strict=True), start=2):
            part = write(aten.slice.Tensor, part, axis, o * d, o * d + (m - 1) * t + 1, t)
        cut.append(part)
    front = [] if rows == 1 else [rows]
    patches = write(aten.stack.default, cut, 2)
    patches = write(aten.reshape.default, patches, [*front, -1, form.into * meets, math.prod(places)])
    made = write(aten.matmul.default, matrix, patches)
    return write(aten.reshape.default, made, [-1, form.out, *places])


def _apart(write: Writer, x: Node, stride: Sequence[int]) -> Node:
    """`stride − 1` zeros between neighbours along each axis."""
    for axis, step in enumerate(stride, start=2):
        if step == 1:
            continue
        size = shape_of(x)
        x = write(aten.unsqueeze.default, x, axis + 1)
        behind = len(size) - 1 - axis
        x = write(aten.pad.default, x, [0, 0] * behind + [0, step - 1])
        x = write(aten.reshape.default, x, [-1, *size[1:axis], size[axis] * step, *size[axis + 1 :]])
        x = write(aten.slice.Tensor, x, axis, 0, (size[axis] - 1) * step + 1)
    return x


def _padded(write: Writer, x: Node, padding: Sequence[tuple[int, int]]) -> Node:
    """Zeros around, or less of the border where the padding is negative."""
    for axis, (before, after) in enumerate(padding, start=2):
        if before < 0 or after < 0:
            end = shape_of(x)[axis] - max(-after, 0)
            x = write(aten.slice.Tensor, x, axis, max(-before, 0), end)
    zeros = _flat([(max(a, 0), max(b, 0)) for a, b in padding])
    return write(aten.pad.default, x, zeros) if any(zeros) else x
