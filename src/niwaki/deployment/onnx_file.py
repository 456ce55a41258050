"""ONNX files: read whole, cleaned of what a device does not need, written with shared weights stored once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, numpy_helper

from niwaki.core.contract import NiwakiError
from niwaki.core.store import write_bytes

__all__ = [
    "SMALL",
    "WEIGHTS",
    "drop_unused",
    "producers",
    "read_by",
    "read_onnx",
    "strip",
    "to_array",
    "write_graphs",
]

WEIGHTS = "weights.bin"
"""Where the graphs of one directory keep what they share."""

SMALL = 1024
"""Bytes; smaller tensors stay in their graph."""

_LARGE = 1 << 30  # bytes; a graph with more weights keeps them outside (protobuf ends at 2 GiB)
_ALIGN = 4096  # engines map weights page by page


def read_onnx(path: Path | str) -> onnx.ModelProto:
    """The model in `path` with all of its weights in memory. Raises NiwakiError where it cannot be read."""
    try:
        return onnx.load(str(path))
    except FileNotFoundError as error:
        raise NiwakiError(f"{error.filename or path} does not exist") from None
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise NiwakiError(f"{path} is not a whole ONNX file: {error}") from error


def to_array(tensor: onnx.TensorProto) -> np.ndarray:
    return numpy_helper.to_array(tensor)


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each value."""
    return {out: node for node in model.graph.node for out in node.output if out}


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop, in place, what only the exporter's readers want: stack traces, comments, inferred shapes."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        item.doc_string = ""
        if hasattr(item, "metadata_props"):
            del item.metadata_props[:]
    drop_unused(graph)
    for function in model.functions:
        del function.metadata_props[:]
        function.doc_string = ""
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""
    return model


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove, in place, constants that no operator reads, also none in the body of a loop or a branch."""
    used = {name for node in graph.node for name in read_by(node)} | {out.name for out in graph.output}
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Names of all values that an operator reads, also in the body of a loop or a branch."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            yield from (out.name for out in inner.output)
            for part in inner.node:
                yield from read_by(part)


def _key(tensor: onnx.TensorProto) -> str:
    """A tensor's content: equal for equal type, shape and bytes."""
    head = f"{tensor.data_type}:{tuple(tensor.dims)};".encode()
    return hashlib.sha256(head + tensor.raw_data).hexdigest()


def write_graphs(
    models: Mapping[str, onnx.ModelProto], directory: Path | str, *, outside: bool = False
) -> dict[str, Path]:
    """Write each model as `<name>.onnx` in `directory`; weights that several hold go to `weights.bin`, once.

    Weights are recognised by content, so a flow's forward and inverse share them whatever the exporter called
    them. A single graph stays one file, unless it is too large for one or all large tensors are wanted
    `outside`. The models in memory are left with references to the file. Raises NiwakiError where a file
    cannot be written.
    """
    directory = Path(directory)
    held = {name: [t for t in m.graph.initializer if len(t.raw_data) >= SMALL] for name, m in models.items()}
    times = Counter(key for tensors in held.values() for key in {_key(t) for t in tensors})
    places: dict[str, tuple[int, int]] = {}
    data = bytearray()
    for name in sorted(held):
        large = sum(len(t.raw_data) for t in held[name]) > _LARGE
        for tensor in held[name]:
            key = _key(tensor)
            if times[key] < 2 and not large and not outside:
                continue
            if key not in places:
                data += bytes(-len(data) % _ALIGN)
                places[key] = (len(data), len(tensor.raw_data))
                data += tensor.raw_data
            offset, length = places[key]
            external_data_helper.set_external_data(tensor, WEIGHTS, offset=offset, length=length)
            tensor.ClearField("raw_data")
    if data:
        write_bytes(directory / WEIGHTS, bytes(data))
    paths = {name: directory / f"{name}.onnx" for name in models}
    for name, path in paths.items():
        write_bytes(path, models[name].SerializeToString(deterministic=True))
    return paths
