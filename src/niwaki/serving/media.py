"""Samples as answers: files by their modality, or numbers."""

from __future__ import annotations

import base64
import math
import mimetypes
from typing import Any

import numpy as np

from niwaki.modalities import modality_of
from niwaki_runtime.specs import ValueSpec

__all__ = ["as_file", "as_numbers", "described", "encoded", "media_type"]


def as_file(x: np.ndarray, spec: ValueSpec) -> tuple[str, bytes]:
    """One sample `(*shape)` as a file: its media type and bytes. A sound is a recording; all else is the file
    that the modality makes of it without changing a value."""
    modality = modality_of(spec)
    writers = modality.writers(spec)
    if ".wav" in writers:
        return "audio/wav", writers[".wav"](x[None], spec, {})
    ending, data = modality.file_of(x, spec)
    return media_type(ending), data


def media_type(ending: str) -> str:
    """Of a file's ending.

    >>> media_type(".png"), media_type(".npy")
    ('image/png', 'application/octet-stream')
    """
    return mimetypes.guess_type(f"x{ending}")[0] or "application/octet-stream"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def as_numbers(x: np.ndarray) -> Any:
    """Nested lists; numbers that JSON does not know are null."""
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        return _finite(x.tolist())
    return x.tolist()


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return value if math.isfinite(value) else None


def described(spec: ValueSpec) -> dict[str, Any]:
    """What one thing is, for whoever asks."""
    return spec.to_json()
