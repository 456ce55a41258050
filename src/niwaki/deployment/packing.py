"""Weights entropy-coded beside their graphs (`weights.pack`), to be unpacked when the bundle is loaded."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from niwaki.core.errors import NothingToDo
from niwaki.core.store import write_bytes
from niwaki.deployment.onnx_file import SMALL, WEIGHTS, write_graphs
from niwaki_runtime.manifest import PackedEntry
from niwaki_runtime.packing import Piece, packed

__all__ = ["PACKED", "write_packed"]

PACKED = "weights.pack"
"""Where a bundle keeps what unpacks to `weights.bin`."""

_SIGNED = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
}


def write_packed(models: Mapping[str, onnx.ModelProto], directory: Path) -> dict[str, PackedEntry]:
    """Write each model as `<name>.onnx` in `directory` and the large tensors of all as one packed file.

    Returns what the manifest says of it. A negative zero is stored as zero: masks times weights are full of
    them, their signs would cost a bit each, and in a sum they mean nothing. All else comes back bit for bit.
    Raises NiwakiError where there is nothing to pack or nothing is saved by it.
    """
    for model in models.values():
        _unsigned_zeros(model)
    write_graphs(models, directory, outside=True)
    plain = directory / WEIGHTS
    if not plain.is_file():
        raise NothingToDo(f"packing changed nothing: no weight of the model is larger than {SMALL} bytes")
    raw = plain.read_bytes()
    made = packed(_pieces(models, raw))
    if len(made) >= len(raw):
        raise NothingToDo("packing changed nothing: the weights are as random as they can be")
    write_bytes(directory / PACKED, made)
    plain.unlink()
    return {WEIGHTS: PackedEntry(hashlib.sha256(raw).hexdigest(), len(raw), PACKED)}


def _unsigned_zeros(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        item = _item(tensor)
        if tensor.data_type not in _SIGNED or len(tensor.raw_data) < SMALL or item == 1:
            continue
        words = np.frombuffer(tensor.raw_data, f"<u{item}")
        negative = words == 1 << (8 * item - 1)
        if negative.any():
            tensor.raw_data = np.where(negative, words.dtype.type(0), words).tobytes()


def _pieces(models: Mapping[str, onnx.ModelProto], raw: bytes) -> Iterator[Piece]:
    """All of `raw`, tensor by tensor in the order of the file, and what lies between them."""
    tensors = {}
    for model in models.values():
        for tensor in model.graph.initializer:
            if uses_external_data(tensor):
                location = ExternalDataInfo(tensor)
                tensors[int(location.offset or 0)] = (int(location.length or 0), tensor)
    view, at = memoryview(raw), 0
    for offset in sorted(tensors):
        length, tensor = tensors[offset]
        yield Piece(view[at:offset])
        yield Piece(view[offset : offset + length], _item(tensor, length), tuple(tensor.dims))
        at = offset + length
    yield Piece(view[at:])


def _item(tensor: onnx.TensorProto, length: int | None = None) -> int:
    """Bytes per element; 1 where elements are not whole bytes."""
    size, count = len(tensor.raw_data) if length is None else length, math.prod(tensor.dims)
    return size // count if count and size in (count, 2 * count, 4 * count, 8 * count) else 1
