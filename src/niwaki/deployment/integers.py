"""Weights as integers in the file, activations as unsigned ones: so both engines compute the same."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from niwaki.deployment.onnx_file import drop_unused, producers, to_array

__all__ = ["quantize_embeddings", "store_integers", "symmetric_inputs", "unsigned_activations"]

_RANGE = {"int8": (-128, 127), "uint8": (0, 255)}


def _along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """Per-channel `values` shaped to broadcast along `axis`."""
    if values.ndim == 0 or values.size == 1:
        return values.reshape(())
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def store_integers(model: onnx.ModelProto) -> int:
    """Compute QuantizeLinear of constants once and for all, in place; returns how many there were.

    q = saturate(round_half_even(x / s) + z), as the ONNX standard defines it, so no output changes. Without
    this, weights would stay floats in the file and be rounded at every start on the device.
    """
    initializers = {t.name: t for t in model.graph.initializer}
    done = 0
    for node in list(model.graph.node):
        if node.op_type != "QuantizeLinear" or not all(v in initializers for v in node.input):
            continue
        x, scale = (to_array(initializers[v]).astype(np.float32) for v in node.input[:2])
        zero = to_array(initializers[node.input[2]]) if len(node.input) > 2 else np.zeros((), np.uint8)
        if str(zero.dtype) not in _RANGE:
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        low, high = _RANGE[str(zero.dtype)]
        q = np.rint(x / _along(scale, axis, x.ndim)) + _along(zero, axis, x.ndim).astype(np.float32)
        stored = numpy_helper.from_array(np.clip(q, low, high).astype(zero.dtype), node.output[0])
        model.graph.initializer.append(stored)
        model.graph.node.remove(node)
        done += 1
    if done:
        drop_unused(model.graph)
    return done


def unsigned_activations(model: onnx.ModelProto, keep: str = "ConvTranspose") -> int:
    """Turn int8 activations into uint8 ones by moving their zero point by 128, in place; returns how many.

    The same values, exactly: s·(q − z) = s·((q + 128) − (z + 128)). But openvino 2026.4 errs about twice as
                              much on
    signed activations (measured on a U-Net: 12 instead of 6 %), and onnxruntime's kernels want unsigned ones.
    What operators of type `keep` read stays signed: see `symmetric_inputs`.
    """
    initializers = {t.name: t for t in model.graph.initializer}
    made_by = producers(model)
    moved: set[str] = set()
    for node in model.graph.node:
        source = made_by.get(node.input[0]) if node.op_type == keep else None
        if source is not None and source.op_type == "DequantizeLinear":
            moved.add(source.input[2])
    kept = len(moved)
    for node in _activation_nodes(model):
        tensor = initializers[node.input[2]]
        if tensor.data_type != onnx.TensorProto.INT8 or tensor.name in moved:
            continue
        zero = to_array(tensor).astype(np.int16) + 128
        tensor.CopyFrom(numpy_helper.from_array(zero.astype(np.uint8), tensor.name))
        moved.add(tensor.name)
    return len(moved) - kept


def symmetric_inputs(model: onnx.ModelProto, kind: str = "ConvTranspose") -> int:
    """Take the zero point from activations that operators of type `kind` read; returns how many.

    With a zero point openvino runs ConvTranspose in float (measured: four times as long). Costs up to one
    bit: the scale grows to reach the further end of the range, s' = s·max(z − low, high − z)/127. What is
         never negative
    (after ReLU: uint8 with zero point 0) stays as it is.
    """
    initializers = {t.name: t for t in model.graph.initializer}
    made_by = producers(model)
    pairs: dict[str, list[onnx.NodeProto]] = {}
    for node in _activation_nodes(model):
        pairs.setdefault(node.input[2], []).append(node)
    changed = set()
    for node in model.graph.node:
        source = made_by.get(node.input[0]) if node.op_type == kind else None
        if source is None or source.op_type != "DequantizeLinear" or source.input[2] not in pairs:
            continue
        scale, zero = (initializers[v] for v in source.input[1:3])
        low, high = _RANGE[str(to_array(zero).dtype)]
        z = int(to_array(zero))
        if z == 0 or zero.name in changed:
            continue
        wide = to_array(scale).astype(np.float64) * max(z - low, high - z) / 127.0
        scale.CopyFrom(numpy_helper.from_array(wide.astype(np.float32), scale.name))
        zero.CopyFrom(numpy_helper.from_array(np.zeros((), np.int8), zero.name))
        changed.add(zero.name)
    return len(changed)


def _activation_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The Q and DQ nodes of activations whose zero point is one constant; not those of weights."""
    scalars = {t.name for t in model.graph.initializer if np.prod(t.dims) == 1}
    made_by = producers(model)
    found = []
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            source = made_by.get(node.input[0])
            integer = source is not None and source.op_type == "QuantizeLinear"
            if node.input[2] in scalars and (node.op_type == "QuantizeLinear" or integer):
                found.append(node)
    return found


def quantize_embeddings(model: onnx.ModelProto, smallest: int = 4096) -> int:
    """Store tables of embeddings (Gather from a constant) as int8 rows with a scale each; returns how many.

    smallest: tables with fewer values stay as they are
    """
    initializers = {t.name: t for t in model.graph.initializer}
    done = 0
    for i, node in reversed(list(enumerate(model.graph.node))):
        table = initializers.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.data_type != onnx.TensorProto.FLOAT or len(table.dims) != 2:
            continue
        if any(a.name == "axis" and a.i != 0 for a in node.attribute) or np.prod(table.dims) < smallest:
            continue
        users = [n for n in model.graph.node if table.name in n.input]
        if len(users) != 1:
            continue
        x = to_array(table)
        scale = np.maximum(np.abs(x).max(axis=1) / 127.0, np.float32(1e-12)).astype(np.float32)
        q = np.clip(np.rint(x / scale[:, None]), -127, 127).astype(np.int8)
        names = [f"{table.name}_{part}" for part in ("int8", "scale", "zero", "rows")]
        for name, value in zip(names, (q, scale, np.zeros(len(x), np.int8)), strict=False):
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        dequantize = helper.make_node("DequantizeLinear", names[:3], [names[3]], name=names[3], axis=0)
        model.graph.initializer.remove(table)
        node.input[0] = names[3]
        model.graph.node.insert(i, dequantize)
        done += 1
    return done
