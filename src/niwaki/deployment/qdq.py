"""Graphs of networks that were quantized in torch: their operators in ONNX, put where engines look for them.

Every rewriting here is exact: rounding acts on each value by itself, so it commutes with what only moves
values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from niwaki.core.contract import Graph, NiwakiError
from niwaki.deployment.check import (
    Checked,
    batches_of,
    compared,
    must_run,
    on_engines,
    references,
    repeatable,
)
from niwaki.deployment.onnx_file import drop_unused, producers, read_by, to_array

__all__ = ["check_quantized", "tidy", "translations"]

_MOVES = ("Flatten", "Identity", "MaxPool", "Reshape", "Resize", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that only move values (Resize: where it is nearest)."""


def translations() -> dict[Any, Callable[..., Any]]:
    """Operator of torch → function of ONNX, for the exporter."""
    from onnxscript import opset18 as op

    def quantize(x, scale, zero, axis: int):  # type: ignore[no-untyped-def]
        return op.QuantizeLinear(x, scale, zero, axis=axis)

    def dequantize(q, scale, zero, axis: int):  # type: ignore[no-untyped-def]
        return op.DequantizeLinear(q, scale, zero, axis=axis)

    ops = torch.ops.niwaki
    return {ops.quantize_linear.default: quantize, ops.dequantize_linear.default: dequantize}


def tidy(model: onnx.ModelProto) -> None:
    """Transposes of integer weights computed, quantization moved ahead of what moves values, equal pairs
    merged; in place."""
    if not any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        return
    _transpose_weights(model)
    while _hoist(model):
        _sort(model)
    _merge(model)
    _own_constants(model)
    drop_unused(model.graph)


def _transpose_weights(model: onnx.ModelProto) -> None:
    """DequantizeLinear → Transpose of a stored weight: the integers are stored transposed."""
    stored = {t.name: t for t in model.graph.initializer}
    made_by = producers(model)
    uses = Counter(v for node in model.graph.node for v in node.input)
    for node in [n for n in model.graph.node if n.op_type == "Transpose"]:
        source = made_by.get(node.input[0])
        if source is None or source.op_type != "DequantizeLinear" or source.input[0] not in stored:
            continue
        if uses[source.output[0]] > 1 or uses[source.input[0]] > 1:
            continue
        weight = stored[source.input[0]]
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
        order = order or list(range(len(weight.dims)))[::-1]
        weight.CopyFrom(
            numpy_helper.from_array(np.ascontiguousarray(to_array(weight).transpose(order)), weight.name)
        )
        for attribute in source.attribute:
            if attribute.name == "axis":
                attribute.i = order.index(attribute.i % len(order))
        source.output[0] = node.output[0]
        model.graph.node.remove(node)


def _hoist(model: onnx.ModelProto) -> int:
    """Moving operator → QuantizeLinear → DequantizeLinear becomes Q → DQ → the operator; returns how many."""
    made_by = producers(model)
    scalars = {t.name for t in model.graph.initializer if np.prod(t.dims) == 1}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for value in node.input:
            readers.setdefault(value, []).append(node)
    outputs = {o.name for o in model.graph.output}
    touched: set[str] = set()
    for q in model.graph.node:
        if q.op_type != "QuantizeLinear" or not all(v in scalars for v in q.input[1:3]):
            continue
        move = made_by.get(q.input[0])
        if move is None or not _moves(move) or move.output[0] in outputs or len(readers[q.output[0]]) != 1:
            continue
        dq = readers[q.output[0]][0]
        names = {move.input[0], move.output[0], q.output[0], *dq.output}
        if dq.op_type != "DequantizeLinear" or len(readers[move.output[0]]) > 1 or names & touched:
            continue
        # x → move → a → Q → b → DQ → c   becomes   x → Q → b → DQ → a → move → c
        a, c = move.output[0], dq.output[0]
        q.input[0], dq.output[0] = move.input[0], a
        move.input[0], move.output[0] = a, c
        touched |= names
    return len(touched)


def _moves(node: onnx.NodeProto) -> bool:
    if node.op_type == "Resize":
        return any(a.name == "mode" and a.s == b"nearest" for a in node.attribute)
    return node.op_type in _MOVES


def _merge(model: onnx.ModelProto) -> None:
    """Of several quantizations of one value to equal scales and zero points, one stays."""
    constants = {
        t.name: (t.data_type, to_array(t).tobytes()) for t in model.graph.initializer if np.prod(t.dims) == 1
    }
    outputs = {o.name for o in model.graph.output}
    seen: dict[tuple[Any, ...], str] = {}
    renamed: dict[str, str] = {}
    for node in list(model.graph.node):
        for i, value in enumerate(node.input):
            node.input[i] = renamed.get(value, value)
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.output[0] in outputs:
            continue
        if not all(v in constants for v in node.input[1:3]):
            continue
        key = (node.op_type, node.input[0], *(constants[v] for v in node.input[1:3]))
        if key in seen:
            renamed[node.output[0]] = seen[key]
            model.graph.node.remove(node)
        else:
            seen[key] = node.output[0]


def _own_constants(model: onnx.ModelProto) -> None:
    """Give every quantization its own scale and zero point: where two share one (the exporter stores equal
    tensors once), openvino 2026.4 runs all but the first in float, without a word."""
    stored = {t.name: t for t in model.graph.initializer}
    taken: set[str] = set()
    pairs = {n.output[0]: n for n in model.graph.node if n.op_type == "QuantizeLinear"}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if node.op_type == "DequantizeLinear" and node.input[0] in pairs:
            node.input[1:] = pairs[node.input[0]].input[1:]  # one pair, one grid
            continue
        for i in range(1, len(node.input)):
            name = node.input[i]
            if name in taken:
                copied = onnx.TensorProto()
                copied.CopyFrom(stored[name])
                copied.name = f"{node.output[0]}.{('scale', 'zero')[i - 1]}"
                model.graph.initializer.append(copied)
                node.input[i] = copied.name
            taken.add(node.input[i])


def _sort(model: onnx.ModelProto) -> None:
    """Every operator after those whose values it reads, otherwise in the order they were in."""
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    maker = {out: i for i, n in enumerate(nodes) for out in n.output}
    placed, order = [False] * len(nodes), []
    for first in range(len(nodes)):
        stack = [first]
        while stack:
            at = stack[-1]
            before = [maker[v] for v in read_by(nodes[at]) if v in maker and not placed[maker[v]]]
            if before and not placed[at]:
                stack += before
                continue
            stack.pop()
            if not placed[at]:
                placed[at] = True
                order.append(nodes[at])
    del model.graph.node[:]
    model.graph.node.extend(order)


def check_quantized(
    name: str, graph: Graph, module: nn.Module, path: Path, *, engines: Sequence[str] | None = None
) -> Checked:
    """Mean |error| of each engine against `module`, a frozen quantized network, in standard deviations.

    A value between two steps may be rounded either way, and the difference grows from layer to layer; so an
    engine may differ by a share of what rounding itself may cost. Raises NiwakiError above 5 %, and where one
    of `engines` cannot run the file.
    """
    batches = batches_of(graph, module)
    wanted = references(graph, module, batches)
    runners, refused = on_engines(graph, path, batches[:1])
    must_run(name, refused, engines)
    found = {}
    for engine, runner in runners.items():
        pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for reference in wanted:
            for output, a, b in compared(graph, runner, reference):
                pairs.setdefault(output, []).append((a, b))
        worst = {output: _apart(both) for output, both in pairs.items()}
        if max(worst.values()) > _TOLERANCE:
            for reference in wanted:
                repeatable(name, module, reference)
            raise NiwakiError(
                f"{engine} computes the quantized graph '{name}' with a mean error of "
                f"{max(worst.values()):.2g} standard deviations, more than {_TOLERANCE:.2g}; leave layers in "
                "float, or export with check=False"
            )
        found[engine] = worst
    return Checked(batches, "mean difference from torch, in standard deviations", found, refused)


def _apart(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The largest mean error of a batch in standard deviations of all batches together: a single number for
    each sample (a density) does not vary within a batch of one. Of integers, which are names, the share that
    differs."""
    if pairs[0][0].dtype.kind in "iu":
        return max(float((a != b).mean()) for a, b in pairs)
    spread = max(float(np.concatenate([a.ravel() for a, _ in pairs]).std()), 1e-3)
    error = max(float(np.abs(a.astype(np.float64) - b).mean()) for a, b in pairs) / spread
    return error if np.isfinite(error) else np.inf


_TOLERANCE = 0.05
