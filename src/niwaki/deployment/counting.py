"""Which operators run on integers: the file is asked, since quantizers silently skip what they cannot do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx

from niwaki.deployment.onnx_file import producers, read_onnx

__all__ = ["WEIGHTED", "count_quantized", "quantized_nodes", "stored_nodes", "weighted_nodes"]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that hold nearly all weights and nearly all arithmetic."""

_PASSES = (
    "Concat",
    "Expand",
    "Flatten",
    "Identity",
    "MaxPool",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Operators that move values without computing: quantized values stay quantized."""


def weighted_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Operators of the weighted types that hold a weight; attention's products of two activations do not."""
    constants = {t.name for t in model.graph.initializer}
    made_by = producers(model)

    def constant(value: str) -> bool:
        if value in constants:
            return True
        node = made_by.get(value)
        moves = node is not None and node.op_type in (*_PASSES, "Cast", "QuantizeLinear", "DequantizeLinear")
        return node is not None and moves and constant(node.input[0])

    nodes = [n for n in model.graph.node if n.op_type in WEIGHTED]
    return [n for n in nodes if any(constant(v) for v in n.input[:2])]


def quantized_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Weighted operators whose two operands come out of DequantizeLinear, perhaps reshaped."""
    made_by = producers(model)
    return [n for n in weighted_nodes(model) if all(_dequantized(made_by, v) for v in n.input[:2])]


def stored_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Weighted operators whose weights are stored as integers, but whose other operand is float."""
    made_by = producers(model)
    return [n for n in weighted_nodes(model) if sum(_dequantized(made_by, v) for v in n.input[:2]) == 1]


def _dequantized(made_by: dict[str, onnx.NodeProto], value: str) -> bool:
    node = made_by.get(value)
    if node is None:
        return False
    if node.op_type in _PASSES:
        parts = node.input if node.op_type == "Concat" else node.input[:1]
        return all(_dequantized(made_by, v) for v in parts)
    return node.op_type == "DequantizeLinear"


def count_quantized(path: Path | str | onnx.ModelProto) -> dict[str, int]:
    """Per type how many operators compute on integers, then `quantized` and `total` over all weighted ones;
    `weights` are further ones whose weights alone are integers.

    >>> count_quantized("generator.onnx")  # doctest: +SKIP
    {'Conv': 0, 'ConvTranspose': 3, 'Gemm': 1, 'MatMul': 0, 'quantized': 4, 'weights': 0, 'total': 4}
    """
    model = path if isinstance(path, onnx.ModelProto) else read_onnx(path)
    by_type = Counter(n.op_type for n in quantized_nodes(model))
    counts = {kind: by_type[kind] for kind in WEIGHTED}
    whole, stored = sum(by_type.values()), len(stored_nodes(model))
    return {**counts, "quantized": whole, "weights": stored, "total": len(weighted_nodes(model))}
