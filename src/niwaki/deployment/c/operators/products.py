"""Products with a matrix: Gemm and MatMul, in floats, in integers, or with weights of bytes alone."""

from __future__ import annotations

import math

import numpy as np

from niwaki.core.contract import NiwakiError
from niwaki.deployment.c.operators.epilogue import accumulator, stored
from niwaki.deployment.c.operators.loops import broadcast_strides, index_text, loop_text
from niwaki.deployment.c.operators.operator import Kernel, Pointer, kernel
from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["gemm", "linear", "matmul", "product_pointers"]


@kernel("Linear", internal=True)
def linear(step: Step, network: Network) -> Kernel:
    """y = x Wᵀ + b with constant W `(n, k)`, for every row of x (`lower` makes it of Gemm and MatMul)."""
    weights = step.attributes["weights"]
    n, k = weights.shape
    rows = math.prod(network.arrays[step.inputs[0]].shape) // k
    kind, term, total = accumulator(step, network)
    body = (
        f"for (int32_t r = 0; r < {rows}; r++) {{\n"
        f"    for (int32_t m = 0; m < {n}; m++) {{\n"
        f"        {kind} sum = 0;\n"
        f"        for (int32_t i = 0; i < {k}; i++) {{\n"
        f"            sum += {term(f'x0[r * {k} + i]', f'w[m * {k} + i]')};\n"
        f"        }}\n"
        f"{stored(step, total('sum', 'm'), f'y0[r * {n} + m]', 8)}"
        f"    }}\n"
        f"}}\n"
    )
    return Kernel("linear", body, product_pointers(step))


def product_pointers(step: Step) -> tuple[Pointer, ...]:
    """What a product with constant weights is called with."""
    found = [Pointer("x0", step.inputs[0]), Pointer("w", step.attributes["weights"])]
    for name in ("scale", "bias"):
        values = step.attributes.get(name)
        if values is not None:
            found.append(Pointer(name, values))
    return (*found, Pointer("y0", step.outputs[0], writes=True))


@kernel("MatMul")
def matmul(step: Step, network: Network) -> Kernel:
    """Of two arrays that are both worked out, with the axes before the last two broadcast."""
    a, b = (network.arrays[i].shape for i in step.inputs)
    if len(a) < 2 or len(b) < 2:
        raise NiwakiError("MatMul of a vector has no form in C; write it with an axis of length 1")
    m, k, n = a[-2], a[-1], b[-1]
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    outer = len(batch)
    at_a = [s * m * k for s in broadcast_strides(a[:-2], batch)]
    at_b = [s * k * n for s in broadcast_strides(b[:-2], batch)]
    at_y = [s * m * n for s in broadcast_strides(batch, batch)]
    inner = (
        f"const float *a = x0 + {index_text(at_a)};\n"
        f"const float *b = x1 + {index_text(at_b)};\n"
        f"float *y = y0 + {index_text(at_y)};\n"
        f"for (int32_t r = 0; r < {m}; r++) {{\n"
        f"    for (int32_t c = 0; c < {n}; c++) {{\n"
        f"        float sum = 0.0f;\n"
        f"        for (int32_t i = 0; i < {k}; i++) {{\n"
        f"            sum += a[r * {k} + i] * b[i * {n} + c];\n"
        f"        }}\n"
        f"        y[r * {n} + c] = sum;\n"
        f"    }}\n"
        f"}}"
    )
    body = loop_text(batch[:outer], inner) if outer else inner + "\n"
    pointers = (Pointer("x0", step.inputs[0]), Pointer("x1", step.inputs[1]))
    return Kernel("matmul", body, (*pointers, Pointer("y0", step.outputs[0], writes=True)))


@kernel("Gemm")
def gemm(step: Step, network: Network) -> Kernel:
    """α A B + β C of arrays that are all worked out; with constant B it is `Linear`."""
    raise NiwakiError("Gemm with weights that are worked out has no form in C; write it as MatMul and Add")
