"""Samples as small pictures inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np

from niwaki.core.contract import DataSpec

__all__ = ["difference", "drawable", "picture", "spread"]

RUST = (190, 74, 42)


def drawable(spec: DataSpec | None) -> bool:
    """Whether samples are images of 1, 3 or 4 channels."""
    return (
        spec is not None and spec.modality == "image" and len(spec.shape) == 3 and spec.shape[0] in (1, 3, 4)
    )


def picture(sample: np.ndarray, spec: DataSpec) -> str:
    """One sample `(C, H, W)` in [low, high] as a PNG data address."""
    levels = spec.to_uint8(np.nan_to_num(sample, nan=spec.low))
    return _png(levels[0] if levels.shape[0] == 1 else levels.transpose(1, 2, 0))


def difference(before: np.ndarray, after: np.ndarray, spec: DataSpec) -> str:
    """|after − before| as opacity of one colour: full where the whole value range lies between them.

    The square root lifts small differences, which would be invisible otherwise.
    """
    share = np.abs(np.nan_to_num(after, nan=spec.high) - before).max(0) / (spec.high - spec.low)
    alpha = (np.sqrt(np.clip(share, 0, 1)) * 255 + 0.5).astype(np.uint8)
    ground = np.broadcast_to(np.array(RUST, dtype=np.uint8), (*alpha.shape, 3))
    return _png(np.concatenate([ground, alpha[..., None]], -1))


def spread(labels: np.ndarray | None, total: int, count: int) -> list[int]:
    """Positions of `count` samples, the classes in turn; of more classes than that, an even choice."""
    if labels is None:
        return list(range(min(total, count)))
    classes = np.unique(labels)
    if len(classes) > count:
        classes = classes[np.linspace(0, len(classes) - 1, count).round().astype(int)]
    queues = [np.flatnonzero(labels == c).tolist() for c in classes]
    longest = max(map(len, queues))
    return [q[r] for r in range(longest) for q in queues if r < len(q)][:count]


def _png(array: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
