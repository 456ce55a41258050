"""Operators that move values and leave them as they are: copies from strides to strides."""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.core.contract import NiwakiError
from niwaki.deployment.c.operators.loops import broadcast_strides, copy_text, strides_of
from niwaki.deployment.c.operators.operator import Kernel, Pointer, attribute, kernel
from niwaki.deployment.c.operators.pointwise import literal
from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["MOVING"]

MOVING = ("Copy", "Transpose", "Slice", "Expand", "Tile", "Resize", "DepthToSpace", "SpaceToDepth")
"""Those with one input that is moved: of bytes as of floats."""


def _moved(step: Step, body: str) -> Kernel:
    pointers = (Pointer("x0", step.inputs[0]), Pointer("y0", step.outputs[0], writes=True))
    return Kernel(step.op.lower(), body, pointers)


def constant(step: Step, network: Network, place: int, default: Any = None) -> Any:
    """The values of an input that must be known. Raises NiwakiError where it is worked out."""
    name = step.inputs[place] if place < len(step.inputs) else ""
    if not name:
        return default
    if name not in network.constants:
        raise NiwakiError(f"{step.op} by numbers that are worked out has no form in C")
    return network.constants[name]


def _shapes(step: Step, network: Network) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return network.arrays[step.inputs[0]].shape, network.arrays[step.outputs[0]].shape


@kernel("Copy", internal=True)
def copy(step: Step, network: Network) -> Kernel:
    shape, _ = _shapes(step, network)
    return _moved(step, copy_text(shape, strides_of(shape), strides_of(shape)))


@kernel("Transpose")
def transpose(step: Step, network: Network) -> Kernel:
    shape, made = _shapes(step, network)
    order = attribute(step, "perm", list(range(len(shape)))[::-1])
    read = strides_of(shape)
    return _moved(step, copy_text(made, strides_of(made), [read[axis] for axis in order]))


@kernel("Expand")
def expand(step: Step, network: Network) -> Kernel:
    shape, made = _shapes(step, network)
    return _moved(step, copy_text(made, strides_of(made), broadcast_strides(shape, made)))


@kernel("Tile")
def tile(step: Step, network: Network) -> Kernel:
    shape, made = _shapes(step, network)
    times = [m // n for n, m in zip(shape, made, strict=True)]
    dims = [d for t, n in zip(times, shape, strict=True) for d in (t, n)]
    read = [s for stride in strides_of(shape) for s in (0, stride)]
    return _moved(step, copy_text(dims, strides_of(dims), read))


@kernel("Slice")
def part(step: Step, network: Network) -> Kernel:
    shape, made = _shapes(step, network)
    starts = constant(step, network, 1)
    axes = constant(step, network, 3, np.arange(len(starts)))
    steps = constant(step, network, 4, np.ones(len(starts), np.int64))
    read, begin = strides_of(shape), 0
    for start, axis, by in zip(starts.tolist(), axes.tolist(), steps.tolist(), strict=True):
        n = shape[axis]
        start = min(max(start + n if start < 0 else start, 0), n if by > 0 else n - 1)
        stride = strides_of(shape)[axis]
        begin += start * stride
        read[axis] = by * stride
    return _moved(step, copy_text(made, strides_of(made), read, begin=begin))


@kernel("Split")
def split(step: Step, network: Network) -> Kernel:
    shape = network.arrays[step.inputs[0]].shape
    axis, body, at = attribute(step, "axis", 0) % len(shape), "", 0
    pointers = [Pointer("x0", step.inputs[0])]
    for k, name in enumerate(step.outputs):
        made = network.arrays[name].shape
        begin = at * strides_of(shape)[axis]
        body += copy_text(made, strides_of(made), strides_of(shape), begin=begin, names=(f"y{k}", "x0"))
        pointers.append(Pointer(f"y{k}", name, writes=True))
        at += made[axis]
    return Kernel("split", body, tuple(pointers))


@kernel("Concat")
def concat(step: Step, network: Network) -> Kernel:
    made = network.arrays[step.outputs[0]].shape
    axis, body, at, pointers = attribute(step, "axis", 0) % len(made), "", 0, []
    for k, name in enumerate(step.inputs):
        shape = network.arrays[name].shape
        to = at * strides_of(made)[axis]
        body += copy_text(shape, strides_of(made), strides_of(shape), at=to, names=("y0", f"x{k}"))
        pointers.append(Pointer(f"x{k}", name))
        at += shape[axis]
    return Kernel("concat", body, (*pointers, Pointer("y0", step.outputs[0], writes=True)))


@kernel("Resize")
def resize(step: Step, network: Network) -> Kernel:
    """Every value several times: nearest neighbours by whole factors."""
    shape, made = _shapes(step, network)
    whole = all(m % n == 0 for n, m in zip(shape, made, strict=True))
    repeats = _repeats(attribute(step, "coordinate_transformation_mode", "half_pixel"),
                       attribute(step, "nearest_mode", "round_prefer_floor"))  # fmt: skip
    if attribute(step, "mode", "nearest") != "nearest" or not whole or not repeats:
        raise NiwakiError("Resize has a form in C for nearest neighbours by whole factors; write it so")
    dims = [d for n, m in zip(shape, made, strict=True) for d in (n, m // n)]
    read = [s for stride in strides_of(shape) for s in (stride, 0)]
    return _moved(step, copy_text(dims, strides_of(dims), read))


def _repeats(coordinates: str, rounding: str) -> bool:
    """Whether output i is input ⌊i / factor⌋."""
    return (coordinates, rounding) == ("asymmetric", "floor") or coordinates == "half_pixel"


@kernel("DepthToSpace", "SpaceToDepth")
def blocks(step: Step, network: Network) -> Kernel:
    shape, made = _shapes(step, network)
    size = attribute(step, "blocksize", 1)
    deep, wide = (shape, made) if step.op == "DepthToSpace" else (made, shape)
    c, h, w = wide[1], deep[2], deep[3]
    order = (c, size, size) if attribute(step, "mode", "DCR") == "CRD" and step.op == "DepthToSpace" else None
    packed = strides_of((*(order or (size, size, c)), h, w))
    s_c, s_i, s_j = (packed[0], packed[1], packed[2]) if order else (packed[2], packed[0], packed[1])
    dims = (c, h, size, w, size)
    spread, inside = strides_of(dims), [s_c, packed[3], s_i, packed[4], s_j]
    to, read = (spread, inside) if step.op == "DepthToSpace" else (inside, spread)
    return _moved(step, copy_text(dims, to, read))


@kernel("Pad")
def pad(step: Step, network: Network) -> Kernel:
    shape, made = _shapes(step, network)
    if attribute(step, "mode", "constant") != "constant":
        raise NiwakiError(f"Pad by '{step.attributes['mode']}' has no form in C; constant has")
    pads, axes = constant(step, network, 1), constant(step, network, 3, np.arange(len(shape)))
    before = pads[: len(axes)].tolist()
    if min(pads.tolist(), default=0) < 0:
        raise NiwakiError("Pad by less than nothing has no form in C; cut with Slice")
    value = constant(step, network, 2, np.float32(0.0))
    at = sum(n * strides_of(made)[axis] for n, axis in zip(before, axes.tolist(), strict=True))
    size = network.arrays[step.outputs[0]].size
    fill = f"for (int32_t i = 0; i < {size}; i++) {{\n    y0[i] = {literal(value)};\n}}\n"
    return _moved(step, fill + copy_text(shape, strides_of(made), strides_of(shape), at=at))
