"""What samples were asked to be, beside them in a coded file."""

from __future__ import annotations

import zlib

import numpy as np

from niwaki_runtime.codec.errors import CodecError

__all__ = ["pack_labels", "unpack_labels"]


def pack_labels(labels: tuple[np.ndarray, ...]) -> bytes:
    """Integers `(n,)` of each condition as bytes; none where there is no condition."""
    return zlib.compress(b"".join(y.astype("<u4").tobytes() for y in labels), 9) if labels else b""


def unpack_labels(packed: bytes, sizes: tuple[int, ...], n: int) -> tuple[np.ndarray, ...]:
    """What `pack_labels` packed, int64 `(n,)` each. Raises CodecError for what no encoder writes.

    sizes: how many values each condition has
    """
    if not sizes:
        return ()
    try:
        data = zlib.decompressobj().decompress(packed, 4 * n * len(sizes) + 1)
        rows = np.frombuffer(data, "<u4").reshape(len(sizes), n)
    except (zlib.error, ValueError) as error:
        raise CodecError("the labels of a block are damaged") from error
    if any(row.max(initial=0) >= size for row, size in zip(rows, sizes, strict=True)):
        raise CodecError("the labels of a block are damaged")
    return tuple(row.astype(np.int64) for row in rows)
