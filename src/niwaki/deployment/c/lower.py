"""From ONNX's operators to few: products with weights at hand, and maps that work value by value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from niwaki.core.contract import NiwakiError
from niwaki.deployment.c.operators import POINTWISE
from niwaki.deployment.c.operators.pointwise import literal
from niwaki.deployment.c.types import C_TYPES
from niwaki.deployment.static_graph.network import Array, Network, Step

__all__ = ["lower"]


def lower(network: Network) -> None:
    """Products first, for they look for dequantized inputs; then everything that works value by value."""
    makers = {o: s for s in network.steps for o in s.outputs}
    steps: list[Step] = []
    for step in network.steps:
        if step.op in ("Conv", "ConvTranspose") or _by_constant(step, network):
            steps += _product(step, network, makers)
        else:
            steps.append(step)
    network.steps = [_map(s, network) if s.op in POINTWISE else s for s in steps]
    network.remove_unused()


def _by_constant(step: Step, network: Network) -> bool:
    """Whether it is a product with a constant matrix."""
    if step.op not in ("Gemm", "MatMul"):
        return False
    b = step.inputs[1]
    return b in network.constants and network.constants[b].ndim == 2


def _product(step: Step, network: Network, makers: dict[str, Step]) -> list[Step]:
    """The same with its weights as attributes: bytes where they are stored so, beside bytes of the input
    where that is dequantized just before."""
    x, w, *rest = step.inputs
    if w not in network.constants:
        raise NiwakiError(f"{step.op} with weights that are worked out has no form in C")
    if step.op == "Gemm" and (step.attributes.get("transA", 0) or step.attributes.get("alpha", 1.0) != 1.0):
        raise NiwakiError("Gemm has a form in C with alpha 1 and transA 0; write others as MatMul")
    made = network.arrays[step.outputs[0]]
    attributes: dict[str, Any] = {**step.attributes, "shape": made.shape}
    weights, scale = _weights(step, network, w)
    channels = made.shape[1] if step.op.startswith("Conv") else made.shape[-1]
    read = _dequantized(x, network, makers) if scale is not None else None
    if read is not None and scale is not None:
        name, x_scale, x_zero = read
        if weights[0].size * 255 * 127 >= 2**31 and weights.ndim == 2:
            raise NiwakiError(f"a sum of {weights[0].size} products of bytes does not fit into 32 bits")
        x, scale = name, (scale * x_scale).astype(np.float32)
        attributes["x_zero"] = x_zero
    attributes |= {"weights": weights, "scale": scale}
    op = step.op if step.op.startswith("Conv") else "Linear"
    bias = rest[0] if rest and rest[0] else ""
    if not bias or bias in network.constants:
        if bias:
            values = network.constants[bias] * np.float32(step.attributes.get("beta", 1.0))
            attributes["bias"] = np.broadcast_to(values.reshape(-1), (channels,)).astype(np.float32)
        return [Step(op, (x,), step.outputs, attributes)]
    out = f"{step.outputs[0]}.sum"
    network.arrays[out] = made
    return [Step(op, (x,), (out,), attributes), Step("Add", (out, bias), step.outputs)]


def _weights(step: Step, network: Network, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The weights `(outputs, …)`, or `(inputs, outputs, …)` of a transposed convolution, and a scale per
    output where they are bytes."""
    flip = (step.op == "MatMul") or (step.op == "Gemm" and not step.attributes.get("transB", 0))
    stored = network.quantized.get(name)
    if stored is not None and not stored.zero.any():
        axis = 1 if (step.op == "ConvTranspose" or flip) else 0
        grouped = step.op == "ConvTranspose" and step.attributes.get("group", 1) != 1
        if stored.scale.size == 1 or (stored.axis == axis and not grouped):
            values = stored.values.T if flip else stored.values
            return np.ascontiguousarray(values), stored.scale.reshape(-1)
    values = network.constants[name].astype(np.float32)
    return np.ascontiguousarray(values.T if flip else values), None


def _dequantized(name: str, network: Network, makers: dict[str, Step]) -> tuple[str, np.float32, int] | None:
    """The bytes behind an input that is dequantized by one scale: their name, scale and zero."""
    maker = makers.get(network.storage(name))
    if maker is None or maker.op != "DequantizeLinear":
        return None
    q, scale, *zero = maker.inputs
    if scale not in network.constants or network.constants[scale].size != 1:
        return None
    offset = network.constants[zero[0]] if zero and zero[0] else np.zeros(1, np.int8)
    bytes_ = f"{name}.bytes"
    network.arrays[bytes_] = Array(network.arrays[name].shape, network.arrays[q].dtype)
    network.views[bytes_] = q
    return bytes_, np.float32(network.constants[scale].reshape(())), int(offset.reshape(()))


def _map(step: Step, network: Network) -> Step:
    """A step that works value by value, as a loop with one line."""
    made = network.arrays[step.outputs[0]]
    operands: list[str] = []
    inputs: list[str] = []
    shapes: list[tuple[int, ...]] = []
    for k, name in enumerate(step.inputs):
        values = network.constants.get(name) if name else None
        if not name:
            operands.append("")
        elif values is not None and values.size == 1:
            operands.append(literal(values))
        else:
            shape = network.arrays[name].shape
            if step.op in ("QuantizeLinear", "DequantizeLinear") and k:
                axis = step.attributes.get("axis", 1) % len(made.shape)
                shape = tuple(n if a == axis else 1 for a, n in enumerate(made.shape))
            if (name, shape) in zip(inputs, shapes, strict=True):
                operands.append(f"a{list(zip(inputs, shapes, strict=True)).index((name, shape))}")
                continue
            operands.append(f"a{len(inputs)}")
            inputs.append(name)
            shapes.append(shape)
    kind = C_TYPES[made.dtype]
    bounds = np.iinfo(made.dtype) if made.dtype in ("int8", "uint8") else None
    told = {
        **step.attributes, "op": step.op, "type": kind, "to_bool": made.dtype == "bool",
        "range": (bounds.min, bounds.max) if bounds else None,
    }  # fmt: skip
    line = (kind, POINTWISE[step.op](told, *operands))
    attributes = {"lines": [line], "shape": made.shape, "shapes": shapes}
    return replace(step, op="Map", inputs=tuple(inputs), attributes=attributes)
