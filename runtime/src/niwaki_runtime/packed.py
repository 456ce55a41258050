"""Packed weights: how they lie on disk, and how they are read. `packing` writes them.

    file    = magic, blocks until all bytes promised have come out
    block   = segments; rows; the lanes' states and the words of all coded streams in it (`rans`)
    segment = kind, bytes per item, items, and then
        RAW       the items
        PLANES    one stream per byte of an item, the lowest first; wider items turned left by one bit, so
                  that the exponent of a float32 or bfloat16 is one byte
        PALETTE   few distinct items, and a stream of indices into them
        CHANNELS  the same with a palette per channel (what a scale per channel makes of few values)
        SPARSE    a stream of bits, 1 where an item is not zero, and the others as a segment of their own
    stream  = bytes as they are, one byte for all, or a table of frequencies (then rANS)

Counts are LEB128 numbers, all else is little-endian. Whatever the bytes are, the work and the memory are
bounded by what the manifest promises; what is not exactly this form is a BundleError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from niwaki_runtime import rans
from niwaki_runtime.errors import BundleError, NiwakiError, is_full
from niwaki_runtime.manifest import FileEntry

__all__ = ["expand", "unpacked"]

MAGIC = b"NWP1"
RAW, PLANES, PALETTE, CHANNELS, SPARSE = range(5)  # segments
# Streams; the last two are coded: which symbols there are is a bitmap, or a count of 0 … k−1.
PLAIN, CONSTANT, LISTED, COUNTED = range(4)
SEGMENT_LIMIT = 1 << 24  # bytes that come out of one segment
STREAM_LIMIT, SYMBOL_LIMIT = 256, 1 << 26  # per block: coded streams, and symbols in them
# Every block but the last gives so many bytes or has so many streams.
BLOCK_LEAST, STREAM_LEAST = 1 << 20, 128

_SHORT = "packed weights are cut short; copy or export the bundle again"

Bytes = Callable[[], np.ndarray]  # uint8, once the block's streams are decoded


def expand(source: Path, target: Path, promised: FileEntry) -> None:
    """Unpack the file `source` into the new file `target`, which then is what was promised, byte for byte.

    Raises BundleError where it would not be, NiwakiError where there is no space for it; what is left of
    `target` then is of no use.
    """
    digest, there = hashlib.sha256(), 0
    try:
        data = source.read_bytes()
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as file:
            for part in unpacked(data, promised.bytes):
                digest.update(part.data)
                there += file.write(part.data)
    except MemoryError as error:
        raise BundleError(f"{source.name} needs more memory to unpack than there is") from error
    except OSError as error:
        if is_full(error):
            raise NiwakiError(
                f"{source.name} could not be unpacked into {target.parent}: {error.strerror}"
            ) from error
        raise BundleError(f"{source.name} could not be unpacked: {error.strerror or error}") from error
    if FileEntry(digest.hexdigest(), there) != promised:
        raise BundleError(
            f"{source.name} unpacks to something else than its manifest promises; copy it again"
        )


def unpacked(data: bytes, promised: int) -> Iterator[np.ndarray]:
    """What `data` holds, uint8, block after block, `promised` bytes in all. Raises BundleError."""
    reader = _Reader(data)
    if bytes(reader.array(np.uint8, len(MAGIC))) != MAGIC:
        raise BundleError("packed weights do not begin as such; copy or export the bundle again")
    left = promised
    while left:
        block = _Block()
        made = [_segment(reader, block, left) for _ in range(reader.number(1, left))]
        size = sum(n for n, _ in made)
        if size > left:
            raise BundleError(f"packed weights unpack to more than the {promised} bytes promised")
        if size < min(left, BLOCK_LEAST) and len(block.lengths) < STREAM_LEAST:
            raise BundleError(
                f"packed weights come in crumbs, or hold less than the {promised} bytes promised"
            )
        block.decode(reader)
        for n, part in made:
            out = part()
            if len(out) != n:
                raise BundleError("packed weights hold a segment of another length than it says")
            yield out
        left -= size
    if reader.at != len(data):
        raise BundleError("packed weights are followed by something else; copy or export the bundle again")


class _Reader:
    """Numbers and arrays from bytes, never past the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def array(self, dtype: Any, count: int) -> np.ndarray:
        size = count * np.dtype(dtype).itemsize
        if size > len(self.data) - self.at:
            raise BundleError(_SHORT)
        self.at += size
        return np.frombuffer(self.data, dtype, count, self.at - size)

    def byte(self, most: int) -> int:
        self.at += 1
        if self.at > len(self.data):
            raise BundleError(_SHORT)
        return self._within(self.data[self.at - 1], 0, most)

    def number(self, least: int, most: int) -> int:
        value = shift = 0
        while shift < 63:
            byte = self.byte(255)
            value |= (byte & 127) << shift
            if byte < 128:
                return self._within(value, least, most)
            shift += 7
        return self._within(most + 1, least, most)

    @staticmethod
    def _within(value: int, least: int, most: int) -> int:
        if not least <= value <= most:
            raise BundleError("packed weights hold a number that cannot be; copy or export the bundle again")
        return value


class _Block:
    """The coded streams of a block, which are decoded together."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.tables: list[np.ndarray] = []
        self.streams: list[np.ndarray] = []

    def add(self, length: int, table: np.ndarray) -> Bytes:
        self.lengths.append(length)
        self.tables.append(table)
        if len(self.lengths) > STREAM_LIMIT or sum(self.lengths) > SYMBOL_LIMIT:
            raise BundleError("packed weights hold a larger block than any writer makes; do not trust them")
        at = len(self.lengths) - 1
        return lambda: self.streams[at]

    def decode(self, reader: _Reader) -> None:
        if not self.lengths:
            return
        rows = reader.number(1, rans.MAX_ROWS)
        words = reader.number(0, SYMBOL_LIMIT)
        states = reader.array("<u4", sum(rans.lanes(n, rows) for n in self.lengths))
        coded = rans.Coded(states, reader.array("<u2", words))
        self.streams = rans.decode(coded, self.lengths, self.tables, rows)


def _segment(reader: _Reader, block: _Block, left: int) -> tuple[int, Bytes]:
    """Bytes that come out, and what gives them."""
    kind = reader.byte(SPARSE)
    item = reader.byte(8)
    if item not in (1, 2, 4, 8):
        raise BundleError(f"packed weights hold items of {item} bytes, which no writer makes")
    n = reader.number(1, min(left, SEGMENT_LIMIT) // item)
    return n * item, _SEGMENTS[kind](reader, block, n, item)


def _values(reader: _Reader, block: _Block, n: int, item: int) -> Bytes:
    """The `n` items that another segment needs: RAW or PLANES."""
    return _SEGMENTS[reader.byte(PLANES)](reader, block, n, item)


def _raw(reader: _Reader, block: _Block, n: int, item: int) -> Bytes:
    data = reader.array(np.uint8, n * item)
    return lambda: data


def _planes(reader: _Reader, block: _Block, n: int, item: int) -> Bytes:
    planes = [_stream(reader, block, n) for _ in range(item)]

    def join() -> np.ndarray:
        if item == 1:
            return planes[0]()
        out = np.empty((n, item), np.uint8)
        for j, plane in enumerate(planes):
            out[:, j] = plane()
        words = out.reshape(-1).view(f"<u{item}")
        return (words >> np.uint8(1) | words << np.uint8(8 * item - 1)).view(np.uint8)

    return join


def _palette(reader: _Reader, block: _Block, n: int, item: int) -> Bytes:
    k = reader.number(1, 256)
    values, indices = _values(reader, block, k, item), _stream(reader, block, n)
    return lambda: _looked_up(values(), item, indices(), k)


def _channels(reader: _Reader, block: _Block, n: int, item: int) -> Bytes:
    channels = reader.number(1, n)
    inner = reader.number(1, n)
    if n % (channels * inner):
        raise BundleError("packed weights hold channels that do not fill their tensor")
    sizes = reader.array(np.uint8, channels).astype(np.int64) + 1
    values, indices = _values(reader, block, int(sizes.sum()), item), _stream(reader, block, n)

    def look_up() -> np.ndarray:
        at = indices().reshape(-1, channels, inner)
        if (at >= sizes[:, None]).any():
            raise BundleError("packed weights point outside a palette; copy or export the bundle again")
        starts = (np.cumsum(sizes) - sizes).astype(np.int32)
        return values().view(f"<u{item}")[at + starts[:, None]].reshape(-1).view(np.uint8)

    return look_up


def _looked_up(values: np.ndarray, item: int, indices: np.ndarray, k: int) -> np.ndarray:
    if indices.max() >= k:
        raise BundleError("packed weights point outside a palette; copy or export the bundle again")
    return values.view(f"<u{item}")[indices].view(np.uint8)


def _sparse(reader: _Reader, block: _Block, n: int, item: int) -> Bytes:
    there = reader.number(1, n)
    mask, values = _stream(reader, block, n), _values(reader, block, there, item)

    def place() -> np.ndarray:
        at = np.flatnonzero(mask())
        if len(at) != there:
            raise BundleError("packed weights hold another number of non-zeros than they say")
        out = np.zeros(n, f"<u{item}")
        out[at] = values().view(f"<u{item}")
        return out.view(np.uint8)

    return place


_SEGMENTS = {RAW: _raw, PLANES: _planes, PALETTE: _palette, CHANNELS: _channels, SPARSE: _sparse}


def _stream(reader: _Reader, block: _Block, n: int) -> Bytes:
    """`n` bytes."""
    mode = reader.byte(COUNTED)
    if mode == PLAIN:
        data = reader.array(np.uint8, n)
        return lambda: data
    if mode == CONSTANT:
        value = reader.byte(255)
        return lambda: np.full(n, value, np.uint8)
    if mode == LISTED:
        symbols = np.flatnonzero(np.unpackbits(reader.array(np.uint8, 32), bitorder="little"))
    else:
        symbols = np.arange(reader.number(1, 256))
    bits = reader.byte(rans.PRECISION)
    f = [reader.number(1, 1 << bits) for _ in symbols[1:]]
    last = (1 << bits) - sum(f)  # a table sums to 2^bits, so its last frequency need not be said
    if not len(symbols) or last < 1:
        raise BundleError("packed weights hold a table that does not sum to one")
    table = np.zeros(256, np.int64)
    table[symbols] = np.array([*f, last], np.int64) << (rans.PRECISION - bits)
    return block.add(n, table)
