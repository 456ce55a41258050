"""Clips `(T, C, H, W)`: moving pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from niwaki.modalities.base import Media, Modality, register_modality
from niwaki.modalities.drawing import address, blur, grid, png
from niwaki.modalities.image import pixels
from niwaki_runtime.specs import ValueSpec

__all__ = ["Video"]

RATE = 8.0
"""Pictures per second where the spec says nothing."""


@register_modality("video")
class Video(Modality):
    """Short clips, shown and written as animated GIF (and as a strip of pictures)."""

    def writers(self, spec: ValueSpec) -> Mapping[str, Callable[..., bytes]]:
        return {".gif": _gif, ".png": _strip}

    def draws(self, spec: ValueSpec) -> bool:
        return True

    def show(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> Media:
        return Media("picture", address(_gif(x[None], spec, {}), "image/gif"))

    def ruin(self, x: np.ndarray, spec: ValueSpec, rng: np.random.Generator) -> np.ndarray:
        """Every picture blurred by a quarter of its side."""
        return blur(x, max(x.shape[-2:]) / 4, (x.ndim - 2, x.ndim - 1))


def _gif(x: np.ndarray, spec: ValueSpec, files: Any) -> bytes:
    from PIL import Image

    frames = [Image.fromarray(grid(pixels(x[:, t], spec))) for t in range(x.shape[1])]
    file = io.BytesIO()
    pause = round(1000 / (spec.rate or RATE))
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=pause, loop=0)
    return file.getvalue()


def _strip(x: np.ndarray, spec: ValueSpec, files: Any) -> bytes:
    """A row of pictures per clip."""
    rows = [np.concatenate([pixels(clip[t : t + 1], spec)[0] for t in range(len(clip))], 1) for clip in x]
    page = np.concatenate(rows, 0)
    return png(page[..., 0] if page.shape[-1] == 1 else page)
