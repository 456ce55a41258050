"""Normalisations over what follows an axis: of instances, of groups, of layers."""

from __future__ import annotations

import math

import numpy as np

from niwaki.core.contract import NiwakiError
from niwaki.deployment.c.operators.operator import Kernel, Pointer, attribute, kernel
from niwaki.deployment.c.operators.pointwise import literal
from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["batch", "group", "instance", "layer"]


def _normalised(step: Step, rows: int, n: int, value: str, label: str) -> Kernel:
    """(x − mean) / √(variance + ε) of every row of n values, in two passes; `value` says what is done to it
    then, with r the row and i the place in it."""
    epsilon = literal(np.float32(attribute(step, "epsilon", 1e-5)))
    body = (
        f"for (int32_t r = 0; r < {rows}; r++) {{\n"
        f"    const float *x = x0 + r * {n};\n"
        f"    float *y = y0 + r * {n};\n"
        f"    float mean = 0.0f, variance = 0.0f;\n"
        f"    for (int32_t i = 0; i < {n}; i++) {{\n"
        f"        mean += x[i];\n"
        f"    }}\n"
        f"    mean /= {n}.0f;\n"
        f"    for (int32_t i = 0; i < {n}; i++) {{\n"
        f"        variance += (x[i] - mean) * (x[i] - mean);\n"
        f"    }}\n"
        f"    const float scale = 1.0f / sqrtf(variance / {n}.0f + {epsilon});\n"
        f"    for (int32_t i = 0; i < {n}; i++) {{\n"
        f"        y[i] = {value};\n"
        f"    }}\n"
        f"}}\n"
    )
    names = [name for name in step.inputs if name]
    pointers = [Pointer(f"x{k}", name) for k, name in enumerate(names)]
    return Kernel(label, body, (*pointers, Pointer("y0", step.outputs[0], writes=True)))


@kernel("InstanceNormalization", overwrites=True)
def instance(step: Step, network: Network) -> Kernel:
    shape = network.arrays[step.inputs[0]].shape
    value = "(x[i] - mean) * scale * x1[r] + x2[r]"
    return _normalised(step, shape[1], math.prod(shape[2:]), value, "instance_norm")


@kernel("GroupNormalization", overwrites=True)
def group(step: Step, network: Network) -> Kernel:
    shape, groups = network.arrays[step.inputs[0]].shape, step.attributes["num_groups"]
    if network.arrays[step.inputs[1]].size != shape[1]:
        raise NiwakiError("GroupNormalization has a form in C with a scale per channel (opset 21)")
    n = math.prod(shape[1:]) // groups
    c = f"(r * {n} + i) / {math.prod(shape[2:])}"
    return _normalised(step, groups, n, f"(x[i] - mean) * scale * x1[{c}] + x2[{c}]", "group_norm")


@kernel("LayerNormalization", overwrites=True)
def layer(step: Step, network: Network) -> Kernel:
    shape = network.arrays[step.inputs[0]].shape
    axis = attribute(step, "axis", -1) % len(shape)
    n = math.prod(shape[axis:])
    if len(step.outputs) > 1 or any(network.arrays[i].size != n for i in step.inputs[1:] if i):
        raise NiwakiError("LayerNormalization has a form in C with a scale per value and one output")
    value = "(x[i] - mean) * scale * x1[i]" + (" + x2[i]" if len([i for i in step.inputs if i]) > 2 else "")
    return _normalised(step, math.prod(shape[:axis]), n, value, "layer_norm")


@kernel("BatchNormalization", overwrites=True)
def batch(step: Step, network: Network) -> Kernel:
    """By the statistics that training left."""
    shape = network.arrays[step.inputs[0]].shape
    epsilon, n = literal(np.float32(attribute(step, "epsilon", 1e-5))), math.prod(shape[2:])
    body = (
        f"for (int32_t r = 0; r < {shape[1]}; r++) {{\n"
        f"    const float scale = x1[r] / sqrtf(x4[r] + {epsilon});\n"
        f"    for (int32_t i = 0; i < {n}; i++) {{\n"
        f"        y0[r * {n} + i] = (x0[r * {n} + i] - x3[r]) * scale + x2[r];\n"
        f"    }}\n"
        f"}}\n"
    )
    pointers = [Pointer(f"x{k}", name) for k, name in enumerate(step.inputs)]
    return Kernel("batch_norm", body, (*pointers, Pointer("y0", step.outputs[0], writes=True)))
