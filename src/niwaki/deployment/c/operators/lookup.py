"""Rows and values that are found by their number."""

from __future__ import annotations

import math

from niwaki.core.contract import NiwakiError
from niwaki.deployment.c.operators.loops import index_text, loop_text, strides_of
from niwaki.deployment.c.operators.operator import Kernel, Pointer, attribute, kernel
from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["gather", "gather_elements"]


@kernel("Gather")
def gather(step: Step, network: Network) -> Kernel:
    """y[…, i, …] = x[…, index[i], …]; numbers below 0 count from the end. Of a table of bytes, each row has
    a scale."""
    table, index = step.inputs
    shape, places = network.arrays[table].shape, network.arrays[index].size
    axis = attribute(step, "axis", 0) % len(shape)
    outer, n, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    stored = network.quantized.get(table)
    value, pointers = f"x0[(i0 * {n} + row) * {inner} + i2]", [Pointer("x0", table)]
    if stored is not None:
        if axis != 0 or stored.axis != 0 or stored.zero.any():
            raise NiwakiError("Gather of bytes has a form in C for rows with a scale each, and no zero")
        value = f"(float){value} * scale[{'row' if stored.scale.size > 1 else 0}]"
        pointers = [Pointer("x0", stored.values), Pointer("scale", stored.scale.reshape(-1))]
    body = (
        f"int32_t row = x1[i1];\n"
        f"row = row < 0 ? row + {n} : row;\n"
        f"for (int32_t i2 = 0; i2 < {inner}; i2++) {{\n"
        f"    y0[(i0 * {places} + i1) * {inner} + i2] = {value};\n"
        f"}}"
    )
    pointers += [Pointer("x1", index), Pointer("y0", step.outputs[0], writes=True)]
    return Kernel("gather", loop_text((outer, places), body), tuple(pointers))


@kernel("GatherElements")
def gather_elements(step: Step, network: Network) -> Kernel:
    """y[i, j] = x[index[i, j], j], along any axis."""
    shape, made = (network.arrays[i].shape for i in step.inputs)
    axis, read = attribute(step, "axis", 0) % len(shape), strides_of(shape)
    stride, read[axis] = read[axis], 0
    body = (
        f"int32_t row = x1[{index_text(strides_of(made))}];\n"
        f"row = row < 0 ? row + {shape[axis]} : row;\n"
        f"y0[{index_text(strides_of(made))}] = x0[{index_text(read)} + row * {stride}];"
    )
    pointers = (Pointer("x0", step.inputs[0]), Pointer("x1", step.inputs[1]))
    out = Pointer("y0", step.outputs[0], writes=True)
    return Kernel("gather_elements", loop_text(made, body), (*pointers, out))
