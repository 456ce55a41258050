"""Samples as one picture."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from niwaki.core.contract import CallError, DataSpec, ValueSpec

__all__ = ["grid_png", "grid_size"]

_SHOWN = 48  # pixels that a small sample is enlarged to at least, so that it can be seen


def grid_size(n: int) -> tuple[int, int]:
    """Rows and columns of a nearly square grid; ten columns where that comes out even (classes in turn)."""
    columns = 10 if n % 10 == 0 else math.ceil(math.sqrt(n))
    return math.ceil(n / columns), columns


def grid_png(x: np.ndarray, spec: ValueSpec | DataSpec) -> bytes:
    """A PNG of the images `(n, C, H, W)`, C of 1, 3 or 4, in [spec.low, spec.high]; whole pixels, never
    smoothed.

    Raises CallError for samples that are not images.
    """
    if spec.modality != "image" or len(spec.shape) != 3 or spec.shape[0] not in (1, 3, 4):
        raise CallError(
            f"samples of shape {spec.shape} ({spec.modality}) are no pictures; write them with --out x.npz"
        )
    if not len(x):
        raise CallError("there are no samples to draw; ask for at least one with -n")
    rows, columns = grid_size(len(x))
    channels, height, width = spec.shape
    scale = max(1, _SHOWN // max(height, width))
    gap = 1 if scale == 1 else 2
    cell = np.repeat(np.repeat(spec.to_uint8(x), scale, axis=2), scale, axis=3)
    page = np.full(
        (rows * (height * scale + gap) + gap, columns * (width * scale + gap) + gap, channels), 255, np.uint8
    )
    for i, image in enumerate(cell):
        top = gap + (i // columns) * (height * scale + gap)
        left = gap + (i % columns) * (width * scale + gap)
        page[top : top + height * scale, left : left + width * scale] = image.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(page[..., 0] if channels == 1 else page).save(file, "PNG")
    return file.getvalue()
