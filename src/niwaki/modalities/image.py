"""Images `(C, H, W)`, and masks `(H, W)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from niwaki.core.errors import CallError
from niwaki.modalities.base import Media, Modality, register_modality
from niwaki.modalities.drawing import address, blur, grid, png
from niwaki_runtime.specs import ValueSpec

__all__ = ["Image", "Mask", "pixels"]

RUST = (190, 74, 42)


def pixels(x: np.ndarray, spec: ValueSpec) -> np.ndarray:
    """Samples `(n, C, H, W)` as uint8 `(n, H, W, 1|3|4)`; of another number of channels, the first one."""
    x = np.nan_to_num(x, nan=spec.low)
    if x.ndim == 3:
        x = x[:, None]
    if x.shape[1] not in (1, 3, 4):
        x = x[:, :1]
    return spec.to_uint8(x).transpose(0, 2, 3, 1)


@register_modality("image")
class Image(Modality):
    """Pictures of 1, 3 or 4 channels."""

    def writers(self, spec: ValueSpec) -> Mapping[str, Callable[..., bytes]]:
        return {".png": _sheet}

    def file_of(self, x: np.ndarray, spec: ValueSpec) -> tuple[str, bytes]:
        if not self.draws(spec):
            return super().file_of(x, spec)
        one = pixels(x[None], spec)[0]
        return ".png", png(one[..., 0] if one.shape[-1] == 1 else one)

    def rows(self, x: np.ndarray, spec: ValueSpec, columns: int) -> bytes | None:
        return png(grid(pixels(x, spec), columns)) if self.draws(spec) else None

    def draws(self, spec: ValueSpec) -> bool:
        return spec.axes == "HW" or (spec.axes == "CHW" and spec.shape[0] in (1, 3, 4))

    def show(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> Media:
        one = pixels(x[None], spec)[0]
        return Media("picture", address(png(one[..., 0] if one.shape[-1] == 1 else one), "image/png"))

    def show_difference(self, before: np.ndarray, after: np.ndarray, spec: ValueSpec) -> Media | None:
        """|after − before| as opacity of one colour: full where the whole value range lies between them. The
        square root lifts small differences, which would be invisible otherwise."""
        share = np.abs(np.nan_to_num(after, nan=spec.high) - before)
        share = share.max(0) if share.ndim == 3 else share
        alpha = (np.sqrt(np.clip(share / (spec.high - spec.low), 0, 1)) * 255 + 0.5).astype(np.uint8)
        ground = np.broadcast_to(np.array(RUST, dtype=np.uint8), (*alpha.shape, 3))
        return Media("picture", address(png(np.concatenate([ground, alpha[..., None]], -1)), "image/png"))

    def ruin(self, x: np.ndarray, spec: ValueSpec, rng: np.random.Generator) -> np.ndarray:
        """Blurred by a quarter of the side."""
        return blur(x, max(x.shape[-2:]) / 4, (x.ndim - 2, x.ndim - 1))


@register_modality("mask")
class Mask(Image):
    """Which pixels are meant: 0 and 1."""


def _sheet(x: np.ndarray, spec: ValueSpec, files: Any) -> bytes:
    if x.ndim == 4 and x.shape[1] not in (1, 3, 4):
        raise CallError(
            f"samples of shape {spec.shape} ({spec.modality}) are no pictures; write them with --out x.npz"
        )
    if len(x) == 1:
        return Image().file_of(x[0], spec)[1]  # a picture alone is what it is: no frame, not enlarged
    return png(grid(pixels(x, spec)))
