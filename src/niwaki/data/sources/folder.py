"""Images of any size and mode in a folder; its subfolders, where there are any, are the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec
from niwaki.core.paths import expanded
from niwaki.data.audit import ASSUMED, LEFT_OUT, Finding, Level, shortened
from niwaki.data.cache import cached
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.reading.class_folders import divided, laid_out
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
from niwaki.data.reading.walking import hash_or_reason, walk
from niwaki.data.splitting import hash_samples

__all__ = ["FolderOptions", "folder"]

VERSION = 2  # of the reading: a change here makes cached images stale
EXTENSIONS = (
    *("png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "tif", "tiff"),
    *("ppm", "pgm", "pbm", "pnm", "tga", "ico", "jp2", "avif"),
)


class FolderOptions(Options):
    """Settings of `folder`.

    path:       the folder
    size:       height and width in pixels after resizing
    channels:   1 grey, 3 colour, 4 colour with transparency; `auto` is 1 where all files are grey, else 3
    background: grey level 0 … 255 behind transparent pixels where channels is 1 or 3
    splits:     whether train/, val/ and test/ are the splits; default: where all subfolders are called so
    """

    path: str
    size: int = Field(default=32, ge=4, le=1024)
    channels: Literal[1, 3, 4, "auto"] = "auto"
    background: int = Field(default=255, ge=0, le=255)
    splits: bool | None = Field(default=None, exclude_if=lambda value: value is None)


def _read(
    root: Path, images: Sequence[str], options: FolderOptions, channels: int, progress: Progress | None
) -> dict[str, Tensor]:
    """Every image and its state; a broken one leaves zeros and the reason's text as bytes."""
    n = len(images)
    x = np.zeros((n, channels, options.size, options.size), dtype=np.uint8)
    state = np.zeros(n, dtype=np.uint8)
    reasons: list[str] = []

    def read(path: str) -> tuple[np.ndarray | None, str]:
        return read_picture(root / path, options.size, channels, options.background)

    with ThreadPoolExecutor(
        min(16, os.cpu_count() or 1)
    ) as workers:  # PIL decodes and resizes without the GIL
        for i, (picture, remark) in enumerate(workers.map(read, images)):
            if picture is None:
                state[i] = BROKEN
                reasons.append(remark)
            else:
                x[i] = picture
                state[i] = sum(REMARKS[word] for word in remark.split())
            if progress:
                progress(i + 1, n)
    text = np.frombuffer("\n".join(reasons).encode(), dtype=np.uint8).copy()
    return {"x": torch.from_numpy(x), "state": torch.from_numpy(state), "reasons": torch.from_numpy(text)}


@register("folder", FolderOptions)
def folder(config: DataConfig, options: FolderOptions, progress: Progress | None) -> Pool:
    """Images `(n, channels, size, size)`.

    The shorter side is resized to `size` with antialiasing and the middle is cut out; broken images are set
    aside and named in the audit.
    Raises CallError for a path that is no folder, a folder without images, or one in which none can be read.
    """
    root = expanded(options.path)
    if not root.is_dir():
        raise CallError(
            f"data.path '{options.path}' " + ("is not a folder" if root.exists() else "does not exist")
        )
    try:
        seen = walk(root, EXTENSIONS)
    except OSError as error:
        raise CallError(f"data.path '{options.path}' cannot be opened: {error.strerror or error}") from None
    images, findings = sorted(seen.files), seen.findings("images")
    if not images:
        why = "; ".join(f.text for f in findings)
        raise CallError(
            f"data.path '{options.path}' holds no images ({', '.join(EXTENSIONS[:6])} …)"
            + (f": {why}" if why else "")
        )
    layout = laid_out(options.path, images, seen.folders, config.labels, options.splits)
    findings += layout.findings

    channels = options.channels
    if channels == "auto":
        channels = 1 if all(is_grey(root / path) for path in images) else 3
        kind = {1: "grey", 3: "in colour"}[channels]
        findings.append(Finding("note", "shapes", f"the images are {kind}; data.channels says otherwise"))
    ingredients: dict[str, Any] = {
        "version": VERSION,
        "options": {**options.model_dump(exclude={"path", "splits"}), "channels": channels},
        "files": [hash_or_reason(root / path) for path in images],
    }
    found, remarks = cached("folder", ingredients, lambda: _read(root, images, options, channels, progress))
    state = found["state"].numpy()
    findings += remarks + _remarks(images, state, bytes(found["reasons"].numpy()).decode())
    good = np.flatnonzero(state != BROKEN)
    if not len(good):
        raise CallError(f"none of the {len(images)} images in '{options.path}' can be read")
    x = found["x"][torch.from_numpy(good)]
    chosen = torch.from_numpy(good)
    y = None if layout.labels is None else torch.tensor(layout.labels)[chosen]
    names = layout.names
    spec = DataSpec.of("image", tuple(x.shape[1:]), classes=len(names), class_names=names)
    assignment = None
    if layout.split is not None:
        split = np.array(layout.split, np.int64)[good]
        assignment = divided(split, hash_samples(x), config.fractions, config.seed)
    return Pool(
        root.name or "folder", spec, x, y, assignment=assignment,
        item_names=[images[i] for i in good], findings=findings,
    )  # fmt: skip


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
