"""Sums, means, extremes, softmax and pooling."""

from __future__ import annotations

import math

import numpy as np

from niwaki.core.contract import NiwakiError
from niwaki.deployment.c.operators.loops import collapsed, index_text, loop_text, strides_of
from niwaki.deployment.c.operators.movement import constant
from niwaki.deployment.c.operators.operator import Kernel, Pointer, attribute, kernel
from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["cumulated", "pooled", "reduced", "softmax"]

_REDUCTIONS = {
    "ReduceSum": ("0.0f", "sum += {x};", "sum"),
    "ReduceMean": ("0.0f", "sum += {x};", "sum / {n}.0f"),
    "ReduceProd": ("1.0f", "sum *= {x};", "sum"),
    "ReduceMax": ("-INFINITY", "sum = {x} > sum ? {x} : sum;", "sum"),
    "ReduceMin": ("INFINITY", "sum = {x} < sum ? {x} : sum;", "sum"),
    "ReduceL2": ("0.0f", "sum += {x} * {x};", "sqrtf(sum)"),
    "ReduceSumSquare": ("0.0f", "sum += {x} * {x};", "sum"),
}
"""operator → where a sum begins, what a value does to it, what becomes of it"""
_OF_INTEGERS = {"0.0f": "0", "1.0f": "1", "-INFINITY": "INT32_MIN", "INFINITY": "INT32_MAX"}


def _pointers(step: Step) -> tuple[Pointer, Pointer]:
    return Pointer("x0", step.inputs[0]), Pointer("y0", step.outputs[0], writes=True)


@kernel(*_REDUCTIONS, "GlobalAveragePool")
def reduced(step: Step, network: Network) -> Kernel:
    array = network.arrays[step.inputs[0]]
    shape = array.shape
    op = "ReduceMean" if step.op == "GlobalAveragePool" else step.op
    given = constant(step, network, 1)
    axes = list(attribute(step, "axes", [])) if given is None else np.ravel(given).tolist()
    if step.op == "GlobalAveragePool":
        axes = list(range(2, len(shape)))
    axes = sorted(a % len(shape) for a in axes) or list(range(len(shape)))
    left = [a for a in range(len(shape)) if a not in axes]
    begin, each, end = _REDUCTIONS[op]
    kind = "float" if array.dtype == "float32" else "int32_t"
    begin = begin if kind == "float" else _OF_INTEGERS[begin]
    strides, outer = strides_of(shape), [shape[a] for a in left]
    inner, (read,) = collapsed([shape[a] for a in axes], [strides[a] for a in axes])
    value = f"x[{index_text(read, letter='k')}]"
    loops = loop_text(inner, each.format(x=value), letter="k")
    at = index_text([strides[a] for a in left])
    body = (
        f"const {kind} *x = x0 + {at};\n"
        f"{kind} sum = {begin};\n"
        f"{loops}"
        f"y0[{index_text(strides_of(outer))}] = {end.format(n=math.prod(inner))};"
    )
    return Kernel(step.op.lower(), loop_text(outer, body), _pointers(step))


@kernel("Softmax", "LogSoftmax", overwrites=True)
def softmax(step: Step, network: Network) -> Kernel:
    shape = network.arrays[step.inputs[0]].shape
    axis = attribute(step, "axis", -1) % len(shape)
    outer, n, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    place = f"i * {inner}" if inner > 1 else "i"
    loop = f"for (int32_t i = 0; i < {n}; i++) {{\n"
    last = "y[{0}] = x[{0}] - most - logf(sum);" if step.op == "LogSoftmax" else "y[{0}] /= sum;"
    keep = "" if step.op == "LogSoftmax" else f"y[{place}] = "
    body = (
        f"const float *x = x0 + (i0 * {n * inner} + i1);\n"
        f"float *y = y0 + (i0 * {n * inner} + i1);\n"
        f"float most = -INFINITY, sum = 0.0f;\n"
        f"{loop}    most = x[{place}] > most ? x[{place}] : most;\n}}\n"
        f"{loop}    sum += ({keep}expf(x[{place}] - most));\n}}\n"
        f"{loop}    {last.format(place)}\n}}"
    )
    return Kernel(step.op.lower(), loop_text((outer, inner), body), _pointers(step))


@kernel("CumSum", overwrites=True)
def cumulated(step: Step, network: Network) -> Kernel:
    """Sums of what comes before along an axis, the value itself among it or (`exclusive`) not."""
    shape = network.arrays[step.inputs[0]].shape
    axis = int(np.ravel(constant(step, network, 1))[0]) % len(shape)
    outer, n, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    at = f"(i0 * {n} + i) * {inner} + i1"
    order = f"int32_t i = 0; i < {n}; i++"
    if attribute(step, "reverse", 0):
        order = f"int32_t i = {n - 1}; i >= 0; i--"
    sums = [f"const float value = x0[{at}];", f"y0[{at}] = sum;", "sum += value;"]
    if not attribute(step, "exclusive", 0):
        sums = [f"sum += x0[{at}];", f"y0[{at}] = sum;"]
    each = "".join(f"    {line}\n" for line in sums)
    body = f"float sum = 0.0f;\nfor ({order}) {{\n{each}}}"
    return Kernel("cumsum", loop_text((outer, inner), body), _pointers(step))


@kernel("AveragePool", "MaxPool")
def pooled(step: Step, network: Network) -> Kernel:
    shape, made = network.arrays[step.inputs[0]].shape, network.arrays[step.outputs[0]].shape
    strange = attribute(step, "ceil_mode", 0) or set(attribute(step, "dilations", [1])) != {1}
    if len(shape) != 4 or strange or attribute(step, "auto_pad", "NOTSET") != "NOTSET":
        raise NiwakiError(f"{step.op} has a form in C for two axes, without dilation and ceil_mode")
    (kh, kw), (sh, sw) = step.attributes["kernel_shape"], attribute(step, "strides", [1, 1])
    ph, pw = attribute(step, "pads", [0, 0, 0, 0])[:2]
    _, c, h, w = shape
    mean = step.op == "AveragePool"
    count = f"{kh * kw}.0f" if attribute(step, "count_include_pad", 0) else "(float)n"
    value = f"x0[(i0 * {h} + at) * {w} + to]"
    body = (
        f"float found = {'0.0f' if mean else '-INFINITY'};\n"
        f"int32_t n = 0;\n"
        f"for (int32_t p = 0; p < {kh}; p++) {{\n"
        f"    for (int32_t q = 0; q < {kw}; q++) {{\n"
        f"        const int32_t at = i1 * {sh} + p - {ph}, to = i2 * {sw} + q - {pw};\n"
        f"        if (at >= 0 && at < {h} && to >= 0 && to < {w}) {{\n"
        f"            {'found += ' + value if mean else f'found = {value} > found ? {value} : found'};\n"
        f"            n++;\n"
        f"        }}\n"
        f"    }}\n"
        f"}}\n"
        f"(void)n;\n"
        f"y0[(i0 * {made[2]} + i1) * {made[3]} + i2] = {'found / ' + count if mean else 'found'};"
    )
    return Kernel(step.op.lower(), loop_text((c, made[2], made[3]), body), _pointers(step))
