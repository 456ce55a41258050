"""Pictures from wherever they lie, with captions and whatever else is known of them, as one pool."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec
from niwaki.core.store import hash_bytes
from niwaki.data.audit import ASSUMED, LEFT_OUT, Finding, Level, shortened
from niwaki.data.cache import cached
from niwaki.data.config import DataConfig, Pool, Progress
from niwaki.data.reading.captions import CaptionOptions, caption_texts
from niwaki.data.reading.class_folders import divided
from niwaki.data.reading.facts import fact_columns
from niwaki.data.reading.pictures import (
    ANIMATED,
    BROKEN,
    DEEP,
    ENLARGED,
    REMARKS,
    SHALLOW,
    is_grey,
    read_picture,
)
from niwaki.data.reading.walking import hash_or_reason
from niwaki.data.splitting import hash_samples
from niwaki_runtime.tokenizer import FILE

__all__ = ["PICTURES", "Picture", "PictureOptions", "picture_pool"]

VERSION = 2  # of the reading: a change here makes cached images stale
PICTURES = (
    *("png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "tif", "tiff"),
    *("ppm", "pgm", "pbm", "pnm", "tga", "ico", "jp2", "avif"),
)
"""Endings of the names of pictures, in small letters."""


class PictureOptions(CaptionOptions):
    """Settings of every source of pictures.

    path:       where they lie
    size:       height and width in pixels after resizing
    channels:   1 grey, 3 colour, 4 colour with transparency; `auto` is 1 where all files are grey, else 3
    background: grey level 0 … 255 behind transparent pixels where channels is 1 or 3
    """

    path: str
    size: int = Field(default=32, ge=4, le=1024)
    channels: Literal[1, 3, 4, "auto"] = "auto"
    background: int = Field(default=255, ge=0, le=255)


@dataclass(frozen=True)
class Picture:
    """One picture, not yet read.

    name:    in findings
    source:  its file, or the bytes of one
    caption: None where there is none
    facts:   what else is known, by column: texts, numbers
    """

    name: str
    source: Path | bytes
    caption: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def picture_pool(
    name: str,
    pictures: Sequence[Picture],
    config: DataConfig,
    options: PictureOptions,
    *,
    kind: str,
    classes: tuple[Sequence[int], tuple[str, ...]] | None = None,
    split: Sequence[int] | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    findings: Sequence[Finding] = (),
    progress: Progress | None = None,
) -> Pool:
    """All pictures that can be read, as images `(n, channels, size, size)`, with the columns `caption` where
    there are captions, `class` and one of every further fact.

    kind:    of the cache's files
    classes: of each picture, and their names, where the source knows them
    split:   the number of each picture's split, where the source knows it
    labels:  names of the labels of facts that are whole numbers 0, 1 …, by column
    Raises CallError where none can be read, and for captions that are demanded and absent.
    """
    said = list(findings)
    channels = options.channels
    if channels == "auto":
        channels = 1 if all(is_grey(picture.source) for picture in pictures) else 3
        colour = {1: "grey", 3: "in colour"}[channels]
        said.append(Finding("note", "shapes", f"the images are {colour}; data.channels says otherwise"))
    ingredients: dict[str, Any] = {
        "version": VERSION,
        "options": {"size": options.size, "channels": channels, "background": options.background},
        "files": [_hash(picture.source) for picture in pictures],
    }
    found, remarks = cached(kind, ingredients, lambda: _read(pictures, options, channels, progress))
    state, names = found["state"].numpy(), [picture.name for picture in pictures]
    said += remarks + _remarks(names, state, bytes(found["reasons"].numpy()).decode())
    good = np.flatnonzero(state != BROKEN)
    if not len(good):
        raise CallError(f"none of the {len(pictures)} images in '{options.path}' can be read")
    kept = [pictures[i] for i in good.tolist()]
    x = found["x"][torch.from_numpy(good)]
    columns, more = fact_columns([picture.facts for picture in kept], [p.name for p in kept], labels)
    said += more
    y: Tensor | None = None
    class_names: tuple[str, ...] = ()
    if classes is not None:
        y, class_names = torch.tensor(classes[0])[torch.from_numpy(good)], classes[1]
    elif "class" in columns and config.labels is not False:
        y, class_names = columns["class"].data, columns["class"].spec.names
    columns.pop("class", None)
    files = {}
    if (texts := _texts(kept, options, said)) is not None:
        columns["caption"], files[FILE], more = caption_texts(texts, options, [p.name for p in kept])
        said += more
    assignment = None
    if split is not None:
        given = np.array(split, np.int64)[good]
        assignment = divided(given, hash_samples(x), config.fractions, config.seed)
    return Pool(
        name,
        DataSpec.of("image", tuple(x.shape[1:]), classes=len(class_names), class_names=class_names),
        x,
        y,
        columns=columns,
        assignment=assignment,
        item_names=[picture.name for picture in kept],
        findings=said,
        files=files,
    )


def _texts(pictures: Sequence[Picture], options: PictureOptions, said: list[Finding]) -> list[str] | None:
    """The caption of every picture, empty where it has none; None where none has one, or none is wanted."""
    without = [picture.name for picture in pictures if picture.caption is None]
    if options.captions is False or len(without) == len(pictures):
        if options.captions:
            raise CallError(f"data.captions is true, but the images in '{options.path}' have no captions")
        return None
    if without:
        text = f"{len(without)} of {len(pictures)} images have no caption: theirs is empty"
        said.append(Finding("warning", "captions", text, shortened(without)))
    return [" ".join((picture.caption or "").split()) for picture in pictures]


def _hash(source: Path | bytes) -> str:
    return hash_bytes(source) if isinstance(source, bytes) else hash_or_reason(source)


def _read(
    pictures: Sequence[Picture], options: PictureOptions, channels: int, progress: Progress | None
) -> dict[str, Tensor]:
    """Every image and its state; a broken one leaves zeros and the reason's text as bytes."""
    n = len(pictures)
    x = np.zeros((n, channels, options.size, options.size), dtype=np.uint8)
    state = np.zeros(n, dtype=np.uint8)
    reasons: list[str] = []

    def read(picture: Picture) -> tuple[np.ndarray | None, str]:
        return read_picture(picture.source, options.size, channels, options.background)

    with ThreadPoolExecutor(
        min(16, os.cpu_count() or 1)
    ) as workers:  # PIL decodes and resizes without the GIL
        for i, (image, remark) in enumerate(workers.map(read, pictures)):
            if image is None:
                state[i] = BROKEN
                reasons.append(remark)
            else:
                x[i] = image
                state[i] = sum(REMARKS[word] for word in remark.split())
            if progress:
                progress(i + 1, n)
    text = np.frombuffer("\n".join(reasons).encode(), dtype=np.uint8).copy()
    return {"x": torch.from_numpy(x), "state": torch.from_numpy(state), "reasons": torch.from_numpy(text)}


def _remarks(images: Sequence[str], state: np.ndarray, reasons: str) -> list[Finding]:
    """Findings on images that cannot be read, and on those that are smaller than asked."""
    findings = []
    broken = np.flatnonzero(state == BROKEN).tolist()
    if len(broken):
        items = tuple(f"{images[i]}: {why}" for i, why in zip(broken, reasons.split("\n"), strict=True))
        text = f"{len(broken)} of {len(images)} images cannot be read and were set aside"
        findings.append(Finding("error", "unreadable", text, items))
    small = _of(images, state, ENLARGED)
    if small:
        text = f"{len(small)} of {len(images)} images are smaller than data.size and were enlarged"
        findings.append(
            Finding("warning" if len(small) * 10 > len(images) else "note", "shapes", text, shortened(small))
        )
    moving = _of(images, state, ANIMATED)
    if moving:
        text = f"{len(moving)} of {len(images)} images have several frames, of which the first was read"
        findings.append(Finding("note", LEFT_OUT, text, shortened(moving)))
    shallow, deep = _of(images, state, SHALLOW), _of(images, state, DEEP)
    if shallow:
        text = f"{len(shallow)} images of 32 bits hold no value above 255 and were read as 8 bits"
        level: Level = "note"
        if deep:
            text += f", {len(deep)} others as 16 bits: their greys do not compare; save them as 16 bits"
            level = "warning"
        findings.append(Finding(level, ASSUMED, text, shortened(shallow)))
    return findings


def _of(images: Sequence[str], state: np.ndarray, bit: int) -> list[str]:
    return [images[i] for i in np.flatnonzero((state != BROKEN) & (state & bit != 0)).tolist()]
