"""Samples as answers: files by their modality, or numbers."""

from __future__ import annotations

import asyncio
import base64
import math
import mimetypes
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from niwaki.modalities import modality_of
from niwaki.modalities.provenance import Provenance, stamped
from niwaki.serving.batcher import Item
from niwaki_runtime.specs import ValueSpec

__all__ = ["answers", "as_file", "as_numbers", "described", "encoded", "media_type", "source_of"]


T = TypeVar("T")
_LARGE = 1 << 15
"""Values; the files of more are made beside the loop, which has others to answer meanwhile."""


async def answers(found: Sequence[Any], items: Sequence[Item], entry: Callable[[Any, Item], T]) -> list[T]:
    """The entries of an answer, one for each result and what it was made for."""

    def made() -> list[T]:
        return [entry(one, item) for one, item in zip(found, items, strict=True)]

    return await asyncio.to_thread(made) if sum(getattr(one, "size", 0) for one in found) > _LARGE else made()


def as_file(x: np.ndarray, spec: ValueSpec, source: Provenance | None = None) -> tuple[str, bytes]:
    """One sample `(*shape)` as a file: its media type and bytes. A sound is a recording; all else is the file
    that the modality makes of it without changing a value. It says where it comes from, where such files have
    a place for that."""
    modality = modality_of(spec)
    writers = modality.writers(spec)
    if ".wav" in writers:
        ending, data = ".wav", writers[".wav"](x[None], spec, {})
    else:
        ending, data = modality.file_of(x, spec)
    said = None if source is None else stamped(ending, data, source)
    return media_type(ending), data if said is None else said


def source_of(item: Item) -> Provenance:
    """What a file of an item's sample says of where it comes from."""
    made_by: Any = item.kind
    source: Provenance = made_by.source(item.what)
    return source


def media_type(ending: str) -> str:
    """Of a file's ending.

    >>> media_type(".png"), media_type(".npy")
    ('image/png', 'application/octet-stream')
    """
    known = mimetypes.guess_type(f"x{ending}")[0] or "application/octet-stream"
    return known.replace("/x-wav", "/wav")  # as OpenAI's clients are answered


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
