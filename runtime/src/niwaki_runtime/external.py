"""Which other files an ONNX graph reads weights from: found without an ONNX library and without opening them.

A graph may keep its tensors in files beside it and names them by relative path; an engine would open whatever
is named. So the bundle looks first. The walk follows the wire format of protocol buffers through the few
message types that can lead to a tensor (`onnx.proto`) and skips all else.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from niwaki_runtime.errors import BundleError

__all__ = ["external_files"]

# message → field number → message within; "entry" is a key and a value of `TensorProto.external_data`
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def external_files(path: Path) -> set[str]:
    """Relative paths, as written in the graph. Raises BundleError where the file is not an ONNX graph."""
    try:
        with open(path, "rb") as file:  # mapped, so that the weights themselves are never read
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return set(_locations(data, "model"))
    except (IndexError, ValueError, RecursionError) as error:
        raise BundleError(f"{path.name} is not a whole ONNX graph; export the bundle again") from error


def _locations(data: memoryview, message: str) -> Iterator[str]:
    inner = _FIELDS[message]
    for number, part in _fields(data):
        kind = inner.get(number)
        if kind == "entry":
            entry = dict(_fields(part))
            if entry.get(1) == b"location":
                yield bytes(entry.get(2, b"")).decode()
        elif kind is not None:
            yield from _locations(part, kind)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of every field that has a length; numbers are passed over."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _BYTES:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError("a field is longer than what holds it")
            yield tag >> 3, data[at : at + size]
            at += size
        elif wire == _VARINT:
            _, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"there is no wire type {wire}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")
