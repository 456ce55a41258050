"""A coded file: a header, its copy, and blocks that are read one by one, so that damage costs one block.

    "nwk" 1 │ length │ crc32 │ header (JSON) │ blocks … │ header │ crc32 │ length │ 1 "kwn"

The header says which model wrote it, what a sample is, and how long every block is with its checksum; its
copy at the end stands in where the first is damaged.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from niwaki_runtime.codec.coder import Block
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.errors import CallError
from niwaki_runtime.specs import ValueSpec

__all__ = ["Header", "check_extent", "pack", "unpack"]

_MAGIC, _MAGIC_BACK = b"nwk\x01", b"\x01kwn"
_HEAD = struct.Struct("<II")
_BLOCK = struct.Struct("<III")
_MOST_VALUES = 1 << 27
"""Values of all samples of a file: what it can make a reader allocate, however short it is."""
_MOST_BLOCK = 1 << 16
"""Samples of a block that a file holds."""
_MOST_BLOCKS = 1 << 18
_LONGEST = 1 << 24
"""Bytes of a header's text."""


@dataclass(frozen=True)
class Header:
    """What a coded file says about itself.

    model:    digest of the networks that wrote it
    spec:     what one sample is
    n:        how many samples
    block:    samples of a block
    lossless: whether decoding gives exactly what was coded
    settings: what the coder must be told; in the file they stand beside the others
    names:    what the samples were called, where they were files
    lengths:  where the samples are windows of texts, the tokens of each text; the names are the texts'
    sizes:    bytes of each block
    checks:   their CRC-32
    """

    model: str
    spec: ValueSpec
    n: int
    block: int
    lossless: bool
    settings: Mapping[str, Any]
    names: tuple[str, ...]
    lengths: tuple[int, ...] | None = None
    sizes: tuple[int, ...] = ()
    checks: tuple[int, ...] = ()

    def windows(self) -> int:
        """Samples that the texts fill, the last of them perhaps not to its end; −1 where that is none."""
        lengths = self.lengths or ()
        return -(-sum(lengths) // self.spec.size) if min(lengths, default=0) >= 0 else -1

    def blocks(self) -> int:
        """How many there are; without making a list, which a false header could make too long."""
        return -(-self.n // self.block)

    def counts(self) -> list[tuple[int, int]]:
        """First and last sample + 1 of each block."""
        return [(at, min(self.n, at + self.block)) for at in range(0, self.n, self.block)]

    def to_json(self) -> dict[str, Any]:
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "settings"}
        if self.lengths is None:
            del own["lengths"]
        return {**own, "spec": self.spec.to_json(), **self.settings}

    @classmethod
    def from_json(cls, record: Any) -> Header:
        """Raises CodecError for what no encoder writes."""
        try:
            header = cls(
                model=str(record["model"]),
                spec=ValueSpec.from_json(record["spec"]),
                n=int(record["n"]),
                block=int(record["block"]),
                lossless=bool(record["lossless"]),
                settings={k: v for k, v in record.items() if k not in cls.__dataclass_fields__},
                names=tuple(map(str, record["names"])),
                lengths=tuple(map(int, record["lengths"])) if "lengths" in record else None,
                sizes=tuple(map(int, record["sizes"])),
                checks=tuple(map(int, record["checks"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, CallError) as error:
            raise CodecError(
                "the header of the coded file is incomplete, or holds what no encoder writes"
            ) from error
        sound = (
            header.n >= 0
            and 1 <= header.block <= _MOST_BLOCK
            and header.blocks() == len(header.sizes) == len(header.checks)
            and min(header.sizes, default=0) >= 0
            and len(header.names) in (0, header.n if header.lengths is None else len(header.lengths))
            and (header.lengths is None or header.n == header.windows())
        )
        if not sound:
            raise CodecError("the header of the coded file contradicts itself")
        try:
            check_extent(header.n, header.block, header.spec.size)
        except CallError as error:
            raise CodecError(str(error)) from error
        return header


def check_extent(n: int, block: int, size: int) -> None:
    """Raises CallError for more samples of `size` values than a coded file may hold, `block` to a block."""
    if n * size > _MOST_VALUES:
        raise CallError(
            f"a coded file holds {_MOST_VALUES // size:,} such samples at most, not {n:,}; make several files"
        )
    if not 1 <= block <= _MOST_BLOCK:
        raise CallError(f"a block holds at least one sample and at most {_MOST_BLOCK:,}, not {block:,}")
    if -(-n // block) > _MOST_BLOCKS:
        raise CallError(f"a coded file holds {_MOST_BLOCKS:,} blocks at most; make blocks of more samples")


def pack(header: Header, blocks: Sequence[Block], labels: Sequence[bytes]) -> bytes:
    """The file's bytes; labels: of each block, what its samples were asked to be, packed.

    Raises CallError where the samples' names alone are more than a header holds.
    """
    parts = [_block_bytes(block, names) for block, names in zip(blocks, labels, strict=True)]
    said = header.to_json() | {"sizes": [len(p) for p in parts], "checks": [zlib.crc32(p) for p in parts]}
    # A name of bytes that are no UTF-8 reaches Python as surrogates, which only escapes can write.
    plain = json.dumps(said, separators=(",", ":")).encode()
    if len(plain) > _LONGEST:
        raise CallError("the samples' names are longer than a coded file holds; make several files")
    text = zlib.compress(plain, 9)
    sizes = _HEAD.pack(len(text), zlib.crc32(text))
    return b"".join([_MAGIC, sizes, text, *parts, text, sizes, _MAGIC_BACK])


def unpack(data: bytes) -> tuple[Header, list[tuple[Block, bytes] | None]]:
    """The header, and each block with its labels; None for a block that is damaged.

    Raises CodecError for what is no coded file, and where both headers are damaged.
    """
    front, header = _front(data)
    if header is None:
        header, back = _back(data)
        if header is None:
            raise CodecError("this is no coded file, or its header is damaged at both ends")
        # The front header is as long as its copy.
        front = len(_MAGIC) + _HEAD.size + back
    blocks: list[tuple[Block, bytes] | None] = []
    at = front
    for size, check in zip(header.sizes, header.checks, strict=True):
        part = data[at : at + size]
        whole = len(part) == size and zlib.crc32(part) == check
        blocks.append(_block_of(part) if whole else None)
        at += size
    return header, blocks


def _block_bytes(block: Block, labels: bytes) -> bytes:
    head = _BLOCK.pack(block.mark, len(block.ties), len(labels))
    return head + block.ties + labels + block.words.astype("<u4").tobytes()


def _block_of(part: bytes) -> tuple[Block, bytes] | None:
    if len(part) < _BLOCK.size:
        return None
    mark, ties, labels = _BLOCK.unpack_from(part)
    rest = part[_BLOCK.size :]
    if ties + labels > len(rest) or (len(rest) - ties - labels) % 4:
        return None
    words = np.frombuffer(rest[ties + labels :], "<u4").astype(np.uint32)
    return Block(words, mark, rest[:ties]), rest[ties : ties + labels]


def _front(data: bytes) -> tuple[int, Header | None]:
    start = len(_MAGIC) + _HEAD.size
    if data[: len(_MAGIC)] != _MAGIC or len(data) < start:
        return 0, None
    length, check = _HEAD.unpack_from(data, len(_MAGIC))
    return start + length, _read(data[start : start + length], length, check)


def _back(data: bytes) -> tuple[Header | None, int]:
    tail = _HEAD.size + len(_MAGIC_BACK)
    if len(data) < tail or data[-len(_MAGIC_BACK) :] != _MAGIC_BACK:
        return None, 0
    length, check = _HEAD.unpack_from(data, len(data) - tail)
    return _read(data[max(0, len(data) - tail - length) : len(data) - tail], length, check), length


def _read(text: bytes, length: int, check: int) -> Header | None:
    if len(text) != length or zlib.crc32(text) != check:
        return None
    unpacker = zlib.decompressobj()
    try:
        record = json.loads(unpacker.decompress(text, _LONGEST))
    except (zlib.error, ValueError, RecursionError):
        return None
    return Header.from_json(record)
