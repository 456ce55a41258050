"""Packing weights: every tensor in the cheapest of a few forms. `packed` says which and reads them.

Equal input gives equal bytes. Sizes are estimated from the quantized frequencies, to within a few bytes, and
only the cheapest form is coded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from niwaki_runtime import rans
from niwaki_runtime.packed import (
    CHANNELS,
    CONSTANT,
    COUNTED,
    LISTED,
    MAGIC,
    PALETTE,
    PLAIN,
    PLANES,
    RAW,
    SPARSE,
    STREAM_LIMIT,
)

__all__ = ["Piece", "packed"]

_PIECE = 1 << 22  # bytes; larger tensors are packed in parts, so that little memory is needed to unpack them
_BLOCK = 1 << 23  # symbols
_LANE = 8192  # bits that a lane should hold at least: its number costs about 3 bytes more than what it tells
_SHORT = 1 << 15  # symbols; for fewer, a coarser table may cost less than it loses
_FEW = 4  # a palette per channel is tried where each of its values serves so many items on average


@dataclass(frozen=True)
class Piece:
    """One tensor: its bytes (little-endian), bytes per item (1, 2, 4, 8; 1 for anything else), its shape."""

    data: bytes | memoryview
    item: int = 1
    shape: tuple[int, ...] = ()

    def array(self) -> np.ndarray:
        return np.frombuffer(self.data, f"<u{self.item}")

    def parts(self) -> Iterator[Piece]:
        """Pieces of at most 4 MiB: some rows of the first axis each, or just some items."""
        count = len(self.data) // self.item
        shape = self.shape if self.shape and math.prod(self.shape) == count else (count,)
        row = self.item * math.prod(shape[1:])
        if row > _PIECE:
            shape, row = (count,), self.item
        step = max(1, _PIECE // max(row, 1))
        for at in range(0, shape[0] if row else 0, step):
            part = memoryview(self.data)[at * row : (at + step) * row]
            yield Piece(part, self.item, (len(part) // row, *shape[1:]))


@dataclass
class _Form:
    """A piece in one of the forms: the bytes of its header, the coded streams that follow in the block."""

    head: bytes = b""
    streams: list[np.ndarray] = field(default_factory=list)
    tables: list[np.ndarray] = field(default_factory=list)
    bits: float = 0.0

    @property
    def size(self) -> float:
        """Bytes on disk, about."""
        return len(self.head) + self.bits / 8 * (1 + 24 / _LANE) + 4 * len(self.streams)

    def __add__(self, other: _Form) -> _Form:
        return _Form(
            self.head + other.head,
            self.streams + other.streams,
            self.tables + other.tables,
            self.bits + other.bits,
        )


def packed(pieces: Iterable[Piece]) -> bytes:
    """The pieces one after the other, packed; `packed.unpacked` gives them back."""
    out, forms = [MAGIC], list[_Form]()
    for piece in pieces:
        for part in piece.parts():
            forms.append(min(_forms(part), key=lambda f: f.size))
            streams = [s for f in forms for s in f.streams]
            if len(streams) > STREAM_LIMIT - 16 or sum(map(len, streams)) >= _BLOCK:
                out.append(_block(forms))
                forms = []
    if forms:
        out.append(_block(forms))
    return b"".join(out)


def _block(forms: Sequence[_Form]) -> bytes:
    head = _number(len(forms)) + b"".join(f.head for f in forms)
    streams = [s for f in forms for s in f.streams]
    if not streams:
        return head
    per_symbol = sum(f.bits for f in forms) / sum(map(len, streams))
    rows = 1 << math.ceil(math.log2(min(max(_LANE / max(per_symbol, 1e-9), 512), rans.MAX_ROWS)))
    coded = rans.encode(streams, [t for f in forms for t in f.tables], rows)
    return head + _number(rows) + _number(len(coded.words)) + coded.states.tobytes() + coded.words.tobytes()


def _number(value: int) -> bytes:
    """LEB128"""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _forms(piece: Piece) -> Iterator[_Form]:
    """The piece in every form that could be cheapest; the first one always fits."""
    items, item = piece.array(), piece.item
    n = len(items)

    def form(kind: int, body: _Form) -> _Form:
        return _Form(bytes([kind, item]) + _number(n)) + body

    yield form(RAW, _Form(bytes(piece.data)))
    yield form(PLANES, _planes(items, item))
    if item > 1 and len(np.unique(items[:4096])) <= 256:
        values = np.unique(items)
        if len(values) <= 256:
            indices = np.searchsorted(values, items).astype(np.uint8)
            yield form(PALETTE, _Form(_number(len(values))) + _values(values, item) + _stream(indices))
    there = int(np.count_nonzero(items))
    if 0 < there < 0.95 * n:
        mask = _stream((items != 0).astype(np.uint8))
        yield form(SPARSE, _Form(_number(there)) + mask + _values(items[items != 0], item))
    for axis in range(min(2, len(piece.shape)) if len(piece.shape) > 1 else 0):
        inner = math.prod(piece.shape[axis + 1 :])
        body = _channels(items, item, piece.shape[axis], inner)
        if body is not None:
            yield form(CHANNELS, body)


def _values(items: np.ndarray, item: int) -> _Form:
    raw, planes = _Form(bytes([RAW]) + items.tobytes()), _Form(bytes([PLANES])) + _planes(items, item)
    return planes if planes.size < raw.size else raw


def _planes(items: np.ndarray, item: int) -> _Form:
    if item > 1:  # turned left by one bit: the sign comes last, the exponent of a float32 is the highest byte
        items = items << np.uint8(1) | items >> np.uint8(8 * item - 1)
    columns = items.astype(f"<u{item}").view(np.uint8).reshape(-1, item)
    out = _Form()
    for j in range(item):
        out += _stream(np.ascontiguousarray(columns[:, j]))
    return out


def _channels(items: np.ndarray, item: int, channels: int, inner: int) -> _Form | None:
    """A palette per channel, the most frequent value first: so zero has the same index in all of them."""
    each = len(items) // channels
    table = items.reshape(-1, channels, inner)
    if channels < 2 or len(np.unique(table[:, 0])) > min(256, each // _FEW):
        return None
    indices, palettes = np.empty(table.shape, np.uint8), []
    for c in range(channels):
        values, inverse, counts = np.unique(table[:, c], return_inverse=True, return_counts=True)
        if len(values) > 256:
            return None
        order = np.argsort(-counts, kind="stable")
        rank = np.empty(len(order), np.uint8)
        rank[order] = np.arange(len(order))
        indices[:, c] = rank[inverse].reshape(-1, inner)
        palettes.append(values[order])
    sizes = bytes(len(p) - 1 for p in palettes)
    head = _Form(_number(channels) + _number(inner) + sizes)
    return head + _values(np.concatenate(palettes), item) + _stream(indices.reshape(-1))


def _stream(symbols: np.ndarray) -> _Form:
    """Bytes as they are, as one byte for all, or coded at the precision that is cheapest with its table."""
    counts = np.bincount(symbols, minlength=256)
    there = np.flatnonzero(counts)
    if len(there) == 1:
        return _Form(bytes([CONSTANT, there[0]]))
    best = _Form(bytes([PLAIN]) + symbols.tobytes())
    dense = there[-1] == len(there) - 1  # the symbols are 0 … k−1
    kinds = _number(len(there)) if dense else np.packbits(counts > 0, bitorder="little").tobytes()
    for bits in (10, 12, rans.PRECISION) if len(symbols) < _SHORT else (rans.PRECISION,):
        f = rans.quantized(counts, bits)
        table = b"".join(_number(int(v)) for v in f[there[:-1]])
        cost = float((counts[there] * (bits - np.log2(f[there]))).sum())
        head = bytes([COUNTED if dense else LISTED]) + kinds + bytes([bits]) + table
        coded = _Form(head, [symbols], [f << (rans.PRECISION - bits)], cost)
        best = min(best, coded, key=lambda form: form.size)
    return best
