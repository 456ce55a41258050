"""Clips `(T, C, H, W)`: moving pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from niwaki.modalities.base import Media, Modality, register_modality
from niwaki.modalities.drawing import address, blur, grid, png
from niwaki.modalities.image import pixels
from niwaki.modalities.movies import movie_bytes
from niwaki_runtime.specs import ValueSpec

__all__ = ["Video"]

RATE = 8.0
"""Pictures per second where the spec says nothing."""


@register_modality("video")
class Video(Modality):
    """Short clips, shown as animated GIF and as a contact sheet, a clip in a row; written so, and as MP4."""

    def writers(self, spec: ValueSpec) -> Mapping[str, Callable[..., bytes]]:
        return {".gif": _gif, ".png": _sheet, ".mp4": _mp4}

    def draws(self, spec: ValueSpec) -> bool:
        return True

    def show(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> Media:
        return Media("picture", address(_gif(x[None], spec, {}), "image/gif"))

    def rows(self, x: np.ndarray, spec: ValueSpec, columns: int) -> bytes | None:
        """A moving page cannot be had as PNG: the contact sheet, a clip in a row."""
        return _sheet(x, spec, {})

    def ruin(self, x: np.ndarray, spec: ValueSpec, rng: np.random.Generator) -> np.ndarray:
        """Every frame blurred by a quarter of its side, and the frames of each clip in another order: neither
        what is seen nor how it moves is left."""
        order = rng.permuted(np.broadcast_to(np.arange(x.shape[1]), x.shape[:2]), axis=1)
        shuffled = np.take_along_axis(x, order.reshape(*order.shape, *(1,) * (x.ndim - 2)), axis=1)
        return blur(shuffled, max(x.shape[-2:]) / 4, (x.ndim - 2, x.ndim - 1))


def _frames(x: np.ndarray, spec: ValueSpec) -> np.ndarray:
    """Clips `(n, T, C, H, W)` as uint8 pictures `(n, T, H, W, 1|3|4)`."""
    n, steps = x.shape[:2]
    return pixels(x.reshape(n * steps, *x.shape[2:]), spec).reshape(n, steps, *x.shape[3:], -1)


def _gif(x: np.ndarray, spec: ValueSpec, files: Any) -> bytes:
    """All clips side by side, playing for ever."""
    from PIL import Image

    pages = [Image.fromarray(page) for page in _pages(x, spec)]
    file = io.BytesIO()
    pause = round(1000 / (spec.rate or RATE))
    pages[0].save(file, "GIF", save_all=True, append_images=pages[1:], duration=pause, loop=0)
    return file.getvalue()


def _mp4(x: np.ndarray, spec: ValueSpec, files: Any) -> bytes:
    """All clips side by side, once."""
    return movie_bytes(_pages(x, spec), spec.rate or RATE)


def _pages(x: np.ndarray, spec: ValueSpec) -> list[np.ndarray]:
    """Frame t of all clips side by side, for every t."""
    frames = _frames(x, spec)
    return [grid(frames[:, t]) for t in range(frames.shape[1])]


def _sheet(x: np.ndarray, spec: ValueSpec, files: Any) -> bytes:
    """A contact sheet: a row for each clip, its frames from left to right."""
    frames = _frames(x, spec)
    return png(grid(frames.reshape(-1, *frames.shape[2:]), frames.shape[1]))
