"""An ONNX graph as a network for one sample: shapes known, constants computed, views recognised."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from niwaki.core.contract import NiwakiError
from niwaki.deployment.static_graph.network import TYPES, Array, Network, Quantized, Step

__all__ = ["read_network"]

_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")


def read_network(
    path: Path,
    name: str,
    inputs: list[str],
    outputs: list[str],
    *,
    known: Collection[str],
    form: str,
) -> Network:
    """The graph of an ONNX file with a batch axis of one.

    known: operators that are carried; form: in which, for sentences
    Raises NiwakiError, which names the operator and those that are carried, for one that is not among
    them, and for a type of values that has no form.
    """
    model = onnx.load(path)
    nodes = [n for n in model.graph.node if n.op_type != "Constant"]
    unknown = sorted({n.op_type for n in nodes} - set(known) - {*_VIEWS, "Shape", "DequantizeLinear"})
    stored = {i.name: numpy_helper.to_array(i, str(path.parent)) for i in model.graph.initializer}
    stored |= {n.output[0]: _constant(n) for n in model.graph.node if n.op_type == "Constant"}
    fixed = _known(nodes, set(stored))
    seen = _values(model, nodes, fixed)
    free = {n.op_type for n in nodes if not all(o in fixed for o in n.output)}
    if [op for op in unknown if op in free]:
        op = next(op for op in unknown if op in free)
        raise NiwakiError(
            f"the graph '{name}' has the operator {op}, which has no form in {form}; carried are "
            f"{', '.join(sorted(known))}, and shapes, views and constants"
        )
    constants = {k: _narrow(v) for k, v in stored.items()}
    quantized: dict[str, Quantized] = {}
    steps: list[Step] = []
    views: dict[str, str] = {}
    arrays = {k: _array(v) for k, v in constants.items()}
    for node in nodes:
        attributes = {a.name: _attribute(a) for a in node.attribute}
        for output in filter(None, node.output):
            if output in seen:
                arrays[output] = _array(_narrow(seen[output]))
        if all(o in fixed for o in node.output if o):
            constants |= {o: _narrow(seen[o]) for o in node.output if o in seen}
            if node.op_type == "DequantizeLinear":
                quantized |= _quantized(node, stored, attributes)
            continue
        given = tuple(node.input)
        if node.op_type in _VIEWS:
            views[node.output[0]] = given[0]
            continue
        steps.append(Step(node.op_type, given, tuple(o for o in node.output if o in seen), attributes))
    for i in model.graph.input:
        arrays[i.name] = _array(_narrow(seen[i.name]))
    for key, array in arrays.items():
        if array.dtype not in TYPES and key not in constants:
            raise NiwakiError(f"'{key}' of the graph '{name}' is {array.dtype}, which has no form in {form}")
    network = Network(name, tuple(inputs), tuple(outputs), arrays, constants, quantized, steps, views)
    _copy_passed(network)
    network.remove_unused()
    return network


def _known(nodes: list[Any], known: set[str]) -> set[str]:
    """Names whose values depend on no input. Shapes are known, too."""
    known = known | {""}
    for node in nodes:
        if node.op_type == "Shape" or all(i in known for i in node.input):
            known |= set(node.output)
    return known


def _values(model: onnx.ModelProto, nodes: list[Any], known: set[str]) -> dict[str, np.ndarray]:
    """Every array of one run on zeros: all shapes and types, and the values of those that are known."""
    import onnxruntime

    names = [o for n in nodes for o in n.output if o]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {o.name for o in watched.graph.output}
    watched.graph.output.extend(helper.make_empty_tensor_value_info(o) for o in names if o not in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    fed = {}
    for i in model.graph.input:
        shape = [d.dim_value or 1 for d in i.type.tensor_type.shape.dim]
        fed[i.name] = np.zeros(shape, helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type))
    made = session.run(names, fed)
    return {**fed, **dict(zip(names, made, strict=True))}


def _quantized(node: Any, stored: dict[str, np.ndarray], attributes: dict[str, Any]) -> dict[str, Quantized]:
    values, scale, *zero = (stored.get(i) for i in node.input if i)
    if values is None or scale is None or attributes.get("block_size") or scale.ndim > 1:
        return {}
    offset = zero[0] if zero and zero[0] is not None else np.zeros((), values.dtype)
    if values.dtype not in (np.int8, np.uint8):
        return {}
    axis = int(attributes.get("axis", 1)) % max(values.ndim, 1)
    return {node.output[0]: Quantized(values, scale.astype(np.float32), offset, axis)}


def _copy_passed(network: Network) -> None:
    """An output that is an input, a constant or another output's storage is copied."""
    taken: set[str] = set()
    for name in network.outputs:
        root = network.storage(name)
        if root in network.inputs or root in network.constants or root in taken:
            network.views.pop(name, None)
            kept = name
            if name in network.constants or name in network.inputs or name == root:
                kept = f"{name}.copy"
                network.arrays[kept] = network.arrays[name]
                network.outputs = tuple(kept if o == name else o for o in network.outputs)
            network.steps.append(Step("Copy", (root,), (kept,)))
        taken.add(network.storage(name))


def _constant(node: Any) -> np.ndarray:
    return numpy_helper.to_array(helper.get_attribute_value(node.attribute[0]))


def _attribute(attribute: Any) -> Any:
    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _narrow(values: np.ndarray) -> np.ndarray:
    """Integers of 64 bits in 32, where they fit; doubles in float32."""
    values = np.asarray(values)
    if values.dtype == np.int64:
        bounds = np.iinfo(np.int32)
        return np.clip(values, bounds.min, bounds.max).astype(np.int32)
    return values.astype(np.float32) if values.dtype == np.float64 else values


def _array(values: np.ndarray) -> Array:
    return Array(tuple(values.shape), str(values.dtype))
