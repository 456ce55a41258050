"""Exact simplifications of exported graphs that the engines do not make themselves."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from niwaki.deployment.onnx_file import producers, to_array

__all__ = ["fold"]


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Simplify in place: BatchNormalization after a linear layer and a reshape goes into the layer's weights.

    (BatchNormalization right after a convolution is folded by the exporter.)
    """
    initializers = {t.name: t for t in model.graph.initializer}
    made_by = producers(model)
    uses: dict[str, int] = {}
    for node in model.graph.node:
        for value in node.input:
            uses[value] = uses.get(value, 0) + 1
    for value in model.graph.output:
        uses[value.name] = uses.get(value.name, 0) + 1
    for norm in [n for n in model.graph.node if n.op_type == "BatchNormalization"]:
        reshape = made_by.get(norm.input[0])
        if reshape is None or reshape.op_type != "Reshape" or uses[reshape.output[0]] != 1:
            continue
        linear = made_by.get(reshape.input[0])
        if linear is None or linear.op_type != "Gemm" or uses[linear.output[0]] != 1:
            continue
        names = (*linear.input[1:], *norm.input[1:5], reshape.input[1])
        if len(linear.input) != 3 or any(n not in initializers for n in names):
            continue
        if all(uses[n] == 1 for n in names[:2]):
            _into_linear(model, linear, reshape, norm, initializers)
    return model


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _into_linear(
    model: onnx.ModelProto,
    linear: onnx.NodeProto,
    reshape: onnx.NodeProto,
    norm: onnx.NodeProto,
    initializers: dict[str, onnx.TensorProto],
) -> None:
    """y = γ (W x + b − μ)/√(σ² + ε) + β; γ, β, μ, σ² spread over the positions that a channel is given."""
    weight, bias = (to_array(initializers[n]).astype(np.float64) for n in linear.input[1:3])
    scale, shift, mean, var = (to_array(initializers[n]).astype(np.float64) for n in norm.input[1:5])
    shape = to_array(initializers[reshape.input[1]])
    transposed = _attribute(linear, "transB", 0) == 1
    plain = _attribute(linear, "alpha", 1.0) == 1.0 == _attribute(linear, "beta", 1.0)
    outputs = weight.shape[0 if transposed else 1]
    if (
        not plain
        or bias.shape != (outputs,)
        or len(shape) < 2
        or shape[1] != len(scale)
        or outputs % len(scale)
    ):
        return
    if any(s <= 0 for s in shape[1:]) or np.prod(shape[1:]) != outputs:
        return
    gain = scale / np.sqrt(var + _attribute(norm, "epsilon", 1e-5))
    each = outputs // len(scale)
    gains, offsets = np.repeat(gain, each), np.repeat(shift - mean * gain, each)
    weight = weight * (gains[:, None] if transposed else gains[None, :])
    for name, value in ((linear.input[1], weight), (linear.input[2], bias * gains + offsets)):
        initializers[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    for node in model.graph.node:
        for i, value in enumerate(node.input):
            if value == norm.output[0]:
                node.input[i] = reshape.output[0]
    for out in model.graph.output:
        if out.name == norm.output[0]:  # the last operator: the result keeps its declared name
            reshape.output[0] = norm.output[0]
    model.graph.node.remove(norm)
    kept = {value for node in model.graph.node for value in node.input}
    for name in norm.input[1:5]:
        if name not in kept:
            model.graph.initializer.remove(initializers[name])
