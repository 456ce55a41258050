"""From torch to ONNX: the graphs that sampling needs, each checked in both engines before it is relied on."""

from __future__ import annotations

import copy
import functools
import gc
import logging
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from onnxscript import optimizer
from torch import nn
from torch.export import ExportedProgram
from torch.onnx._internal.exporter._registration import ONNXRegistry

from niwaki.core.contract import CallError, GenerativeModel, Graph, NiwakiError, nearest
from niwaki.deployment.bake import bake
from niwaki.deployment.capture import capture
from niwaki.deployment.check import Checked, check_graph
from niwaki.deployment.fold import fold_norms, fold_upsampling
from niwaki.deployment.modulated import without_batch_groups
from niwaki.deployment.onnx_file import strip, write_graphs
from niwaki.deployment.qdq import check_quantized, tidy, translations
from niwaki.deployment.refusals import refusal
from niwaki.surgery.quantized import quantized_layers
from niwaki_runtime.programs import graphs_of

__all__ = ["OPSET", "ExportedGraphs", "export_graphs", "to_onnx"]

OPSET = 18
"""Measured, not newest: from 21 on GroupNormalization is one operator, which openvino 2026.4 runs 1.2 to 1.6
times slower than the InstanceNormalization of 18; and onnxruntime 1.31 then refuses int8 activations."""

_TABLES: dict[int, Any] = {}

_SMALL = 8192  # values; a constant that large is only computed where it replaces as much
_LOGGERS = (
    "torch.onnx",
    "torch.onnx._internal.exporter._registration",
    "torch.export",
    "torch.fx.experimental.symbolic_shapes",
    "onnxscript",
    "onnx_ir",
)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's warnings speak to its developers; what matters is raised."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Tracing makes millions of objects that all stay; looking for cycles among them again and again takes a
    quarter of the time of an export."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


@contextmanager
def _tables_once() -> Iterator[None]:
    """torch's exporter reads the sources of its 500 translations anew at every call, half a second each time;
    here it gets a copy of what it read first."""
    registry: Any = ONNXRegistry
    original = registry.__dict__["from_torchlib"]

    def known(cls: Any, opset_version: int = OPSET) -> Any:
        if opset_version not in _TABLES:
            _TABLES[opset_version] = original.__get__(None, cls)(opset_version=opset_version)
        table = copy.copy(_TABLES[opset_version])
        table.functions = {operator: list(ways) for operator, ways in table.functions.items()}
        return table

    registry.from_torchlib = classmethod(known)
    try:
        yield
    finally:
        registry.from_torchlib = original


class ExportedGraphs(dict[str, Path]):
    """The files of graphs by name, with what their check found (`checked`, by name; empty where there was
    none)."""

    checked: dict[str, Checked]


def export_graphs(
    model: GenerativeModel,
    directory: Path | str,
    *,
    names: Iterable[str] | None = None,
    merge_upsampling: bool = False,
    check: bool = True,
    tolerance: float = 1e-4,
    engines: Sequence[str] | None = None,
) -> ExportedGraphs:
    """Write the graphs of `model` as `<name>.onnx` in `directory`, with free batch axes; weights shared by
    several are stored once (`weights.bin`).

    names:     which graphs; None is those that shipped programs call
    merge_upsampling: nearest upsampling and the 3×3 convolution after it become one ConvTranspose: the same
        values from fewer than half of the products, and 16 weights instead of 9
    check:     compare every graph with torch in every installed engine, at batches of 1, 2, 3 and a large
               one; a quantized one as `niwaki.deployment.qdq.check_quantized` says
    tolerance: largest error allowed, relative to the largest output (at least 1)
    engines:   those that must run the files; None: all that can must agree with torch, and one must
    Raises CallError for a graph that does not exist, and NiwakiError, naming the graph and the operator,
    where one cannot be exported or an engine does not compute what torch does.
    """
    graphs = model.graphs()
    wanted = graphs_of(model.shipped_programs()) if names is None else tuple(names)
    for name in wanted:
        if name not in graphs:
            raise CallError(f"the model has no graph '{name}'; {nearest(name, graphs)}")
    modules = {name: bake(graphs[name].module) for name in wanted}
    protos = {name: to_onnx(name, graphs[name], modules[name]) for name in wanted}
    for proto in protos.values():
        if merge_upsampling:
            fold_upsampling(proto)
    paths = ExportedGraphs(write_graphs(protos, directory))
    paths.checked = {}
    for name, path in paths.items():
        if not check:
            continue
        graph, module = graphs[name], modules[name]
        if quantized_layers(module):
            paths.checked[name] = check_quantized(name, graph, module, path, engines=engines)
        else:
            paths.checked[name] = check_graph(name, graph, module, path, tolerance=tolerance, engines=engines)
    return paths


def to_onnx(name: str, graph: Graph, module: nn.Module) -> onnx.ModelProto:
    """`graph` with the weights of `module` (a baked copy of its own) as valid ONNX. Raises NiwakiError."""
    program = None
    try:
        with _quiet(), _tables_once(), _without_collection(), torch.no_grad():
            program = without_batch_groups(name, capture(name, graph, module))
            made = _translated(program, graph, OPSET)
            needed = _needed_opset(made)
            if needed > OPSET:
                made = _translated(program, graph, needed)
            _simplify(made)
            exported = strip(onnx_ir.serde.serialize_model(made))
    except NiwakiError:
        raise
    except Exception as error:  # the exporter wraps whatever the module or torch raised
        raise refusal(name, error, program) from error
    _check_batch(name, exported, graph)
    _name_batch(exported, graph)
    fold_norms(exported)
    tidy(exported)
    try:
        onnx.checker.check_model(exported, full_check=exported.ByteSize() < 1 << 30)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise NiwakiError(f"the exported graph '{name}' is not valid ONNX: {error}") from error
    declared = [i.name for i in exported.graph.input]
    if declared != list(graph.input_names):
        raise NiwakiError(
            f"the graph '{name}' declares the inputs {', '.join(graph.input_names)}, "
            f"but its module has {', '.join(declared)}"
        )
    return exported


def _translated(program: ExportedProgram, graph: Graph, opset: int) -> onnx_ir.Model:
    """Operators of torch as operators of ONNX."""
    made = torch.onnx.export(
        program,
        (),
        dynamo=True,
        input_names=list(graph.input_names),
        output_names=list(graph.output_names),
        opset_version=opset,
        optimize=False,
        verbose=False,
        custom_translation_table=translations(),
    )
    assert made is not None
    return made.model


def _needed_opset(model: onnx_ir.Model) -> int:
    """The lowest opset that has every operator as it is used here, at least `OPSET`."""
    needed = OPSET
    for node in model.graph.all_nodes():
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type == "GridSample" and node.inputs[0] is not None and node.inputs[0].shape is not None:
            needed = max(needed, OPSET if len(node.inputs[0].shape) == 4 else 20)  # volumes came with 20
        needed = max(needed, _first_opsets().get(node.op_type, OPSET))
    return needed


@functools.cache
def _first_opsets() -> dict[str, int]:
    """The opset in which each operator first was there."""
    first: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain in ("", "ai.onnx"):
            first[schema.name] = min(first.get(schema.name, schema.since_version), schema.since_version)
    return first


def _simplify(model: onnx_ir.Model) -> None:
    """Compute what is constant, unless that makes the file larger (a row spread out to a table)."""

    def worthwhile(node: onnx_ir.Node) -> bool | None:
        given = [v.const_value for v in node.inputs if v is not None]
        if any(c is not None and c.dtype == onnx_ir.DataType.FLOAT16 for c in given):
            return False  # half-precision weights are stored as they are
        if any(c is None for c in given) or any(o.shape is None for o in node.outputs):
            return None
        try:
            made = sum(math.prod(o.shape.numpy()) for o in node.outputs if o.shape is not None)
        except (ValueError, TypeError):  # a shape that is not all numbers
            return None
        return made <= sum(c.size for c in given if c is not None) if made > _SMALL else None

    optimizer.optimize_ir(model, should_fold=worthwhile)
    for value in list(model.graph.initializers.values()):
        if value.name and value.name.startswith("wrapped."):
            value.name = value.name.removeprefix("wrapped.")  # ours, not the module's: names are for people


def _name_batch(model: onnx.ModelProto, graph: Graph) -> None:
    """The free axis is called `batch`, not by the letter that torch found for it."""
    ports: list[Any] = [*graph.inputs, *graph.state]
    letters = {
        value.type.tensor_type.shape.dim[port.batch_axis].dim_param
        for value, port in zip(model.graph.input, ports, strict=False)
        if port.batch_axis is not None
    }
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            for letter in letters:
                if dim.dim_param:
                    dim.dim_param = re.sub(rf"\b{re.escape(letter)}\b", "batch", dim.dim_param)


def _check_batch(name: str, model: onnx.ModelProto, graph: Graph) -> None:
    """The exporter may fix an axis that it was asked to leave free."""
    ports: list[Any] = [*graph.inputs, *graph.state]
    for value, port in zip(model.graph.input, ports, strict=False):
        if port.batch_axis is not None and not value.type.tensor_type.shape.dim[port.batch_axis].dim_param:
            raise NiwakiError(
                f"the graph '{name}' fixed the batch of its input '{value.name}'; "
                "use x.shape[0] rather than a number"
            )
