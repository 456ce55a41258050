"""Small pictures without a plotting library: PNG addresses, and lines as SVG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np

__all__ = ["COLOURS", "address", "blur", "fan", "grid", "grid_size", "heat", "lines", "lines_over", "png"]

COLOURS = ("#2f6f4f", "#be4a2a", "#3b6ea5", "#8a6d1d", "#6b4f8a", "#4a4a4a")
_SHOWN = 48  # pixels that a small sample is enlarged to at least, so that it can be seen


def address(data: bytes, kind: str) -> str:
    """Bytes as a `data:` address of a media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png(array: np.ndarray) -> bytes:
    """uint8 `(H, W)` or `(H, W, C)` as a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, "PNG", optimize=True)
    return file.getvalue()


def grid_size(n: int) -> tuple[int, int]:
    """Rows and columns of a nearly square grid; ten columns where that comes out even (classes in turn)."""
    columns = 10 if n % 10 == 0 else math.ceil(math.sqrt(n))
    return math.ceil(n / columns), columns


def grid(x: np.ndarray, columns: int = 0) -> np.ndarray:
    """uint8 images `(n, H, W, C)` on one white page, small ones enlarged in whole pixels, never smoothed.

    columns: images in a row; 0: as many as look well
    """
    n, height, width, channels = x.shape
    rows, columns = (math.ceil(n / columns), columns) if columns else grid_size(n)
    scale = max(1, _SHOWN // max(height, width))
    gap = 1 if scale == 1 else 2
    cell = np.repeat(np.repeat(x, scale, axis=1), scale, axis=2)
    page = np.full(
        (rows * (height * scale + gap) + gap, columns * (width * scale + gap) + gap, channels), 255, np.uint8
    )
    for i, image in enumerate(cell):
        top = gap + (i // columns) * (height * scale + gap)
        left = gap + (i % columns) * (width * scale + gap)
        page[top : top + height * scale, left : left + width * scale] = image
    return page[..., 0] if channels == 1 else page


def lines(channels: np.ndarray, low: float, high: float, *, width: int = 240, height: int = 80) -> str:
    """Curves `(C, T)` as an SVG address.

    low, high: ends of the vertical axis; where they are not finite, those of the curves
    """
    return _svg(width, height, *_curves(channels, low, high, width, height))


def lines_over(
    channels: np.ndarray, low: float, high: float, below: np.ndarray, *, width: int = 240, height: int = 160
) -> str:
    """Curves `(C, T)` and, under them, a picture `(H, W, 3)` uint8 over the same time, as an SVG address."""
    half = height // 2
    picture = (
        f'<image href="{address(png(below), "image/png")}" y="{half}" width="{width}" height="{half}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    )
    return _svg(width, height, *_curves(channels, low, high, width, half - 4), picture)


_HEAT = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float64)
"""From nothing to much: colours that a grey print and the colour-blind tell apart (viridis)."""


def heat(x: np.ndarray) -> np.ndarray:
    """Values 0 … 1 `(H, W)` as colours `(H, W, 3)` uint8."""
    at = np.clip(x, 0.0, 1.0) * (len(_HEAT) - 1)
    low = np.minimum(at.astype(int), len(_HEAT) - 2)
    share = (at - low)[..., None]
    return np.asarray((1 - share) * _HEAT[low] + share * _HEAT[low + 1] + 0.5).astype(np.uint8)


def _curves(channels: np.ndarray, low: float, high: float, width: int, height: int) -> list[str]:
    known = channels[np.isfinite(channels)]
    if not math.isfinite(low) or not math.isfinite(high) or low >= high:
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    span, steps = (high - low) or 1.0, max(channels.shape[-1] - 1, 1)
    parts = []
    for c, row in enumerate(channels):
        points = _points(row, low, span, width / steps, height)
        colour = COLOURS[c % len(COLOURS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
    return parts


def fan(
    past: np.ndarray, truth: np.ndarray, quantiles: np.ndarray, *, width: int = 300, height: int = 120
) -> str:
    """A forecast as an SVG address: the past `(P,)` and what came of it `(T,)` in black, the quantiles
    `(3, T)` low, middle and high as a green band with a line, from a broken line where the future begins."""
    known = np.concatenate([past, truth, quantiles.ravel()])
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    span, begin = (high - low) or 1.0, len(past)
    step = width / max(begin + len(truth) - 1, 1)
    below, middle, above = (_points(row, low, span, step, height, begin) for row in quantiles)
    backwards = " ".join(reversed(below.split(" ")))
    at, green, black = step * (begin - 0.5), COLOURS[0], "#222"
    return _svg(
        width,
        height,
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{height}" stroke="#999" stroke-dasharray="3 3"/>',
        f'<polygon points="{above} {backwards}" fill="{green}" fill-opacity="0.25"/>',
        f'<polyline points="{middle}" fill="none" stroke="{green}" stroke-width="1.6"/>',
        f'<polyline points="{_points(np.concatenate([past, truth]), low, span, step, height)}" fill="none" '
        f'stroke="{black}" stroke-width="1.1"/>',
    )


def _svg(width: int, height: int, *parts: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    return address((head + "".join(parts) + "</svg>").encode(), "image/svg+xml")


def _points(row: np.ndarray, low: float, span: float, step: float, height: int, first: int = 0) -> str:
    """Of what is known; first: place of the row's first value on the axis of time."""
    y = (1.0 - (np.asarray(row, np.float64) - low) / span) * (height - 4) + 2
    shown = [(i, v) for i, v in enumerate(np.clip(y, 0, height)) if not math.isnan(v)]
    return " ".join(f"{(first + i) * step:.1f},{v:.1f}" for i, v in shown)


def blur(x: np.ndarray, sigma: float, axes: Sequence[int]) -> np.ndarray:
    """Gaussian blur along `axes`, sigma in steps of the grid, edges repeated."""
    radius = max(1, math.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in axes:
        padded = np.pad(x, [(radius, radius) if a == axis else (0, 0) for a in range(x.ndim)], mode="edge")
        length = x.shape[axis]
        shifted = (np.take(padded, range(i, i + length), axis) * w for i, w in enumerate(kernel))
        x = np.sum(list(shifted), axis=0).astype(np.float32)
    return x
