"""Samples as a picture file, with numpy alone: PNG (ISO/IEC 15948), without filters."""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.specs import ValueSpec

__all__ = ["contact_sheet", "png"]

_COLOUR = {1: 0, 3: 2, 4: 6}
"""Channels → PNG's type of colour."""


def contact_sheet(samples: np.ndarray, spec: ValueSpec, gap: int = 1) -> bytes:
    """Images `(n, C, H, W)` in the spec's range as one PNG: rows of about as many as there are rows.

    gap: dark pixels between them
    Raises CallError for samples that are no pictures of 1, 3 or 4 channels.
    """
    if spec.axes != "CHW" or spec.shape[0] not in _COLOUR:
        raise CallError(
            f"a picture is made of images of 1, 3 or 4 channels, and the bundle gives {spec.modality} "
            f"samples of the shape {spec.shape}; write .npz or .npy"
        )
    x = spec.to_uint8(samples).transpose(0, 2, 3, 1)
    n, height, width, channels = x.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), np.uint8)
    for i, one in enumerate(x):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = one
    return png(sheet)


def png(pixels: np.ndarray) -> bytes:
    """`(H, W, C)` uint8 of 1, 3 or 4 channels as PNG."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOUR[channels], 0, 0, 0)
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row begins with the number of its filter
    rows[:, 1:] = pixels.reshape(height, -1)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    )
