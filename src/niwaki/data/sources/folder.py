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
from niwaki.core.store import hash_file
from niwaki.data.audit import Finding, shortened
from niwaki.data.cache import cached
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.reading.pictures import BROKEN, ENLARGED, is_grey, read_picture

__all__ = ["FolderOptions", "folder"]

VERSION = 1  # of the reading: a change here makes cached images stale
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
    """

    path: str
    size: int = Field(default=32, ge=4, le=1024)
    channels: Literal[1, 3, 4, "auto"] = "auto"
    background: int = Field(default=255, ge=0, le=255)


def _files(root: Path) -> tuple[list[str], list[str]]:
    """Images and other files below `root`, hidden ones left out, as sorted relative paths."""
    images: list[str] = []
    others: list[str] = []
    for directory, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for file in sorted(files):
            if not file.startswith("."):
                path = (Path(directory) / file).relative_to(root).as_posix()
                known = path.rsplit(".", 1)[-1].lower() in EXTENSIONS
                (images if known else others).append(path)
    return sorted(images), sorted(others)


def _classes(
    root: str, images: Sequence[str], labels: bool | None
) -> tuple[tuple[str, ...], list[int] | None]:
    """Names of the classes and the class of each image; none where there are fewer than two subfolders.

    Raises CallError where labels are not refused and some images lie in subfolders, others beside them.
    """
    if labels is False:
        return (), None
    tops = [path.split("/", 1)[0] if "/" in path else None for path in images]
    names = tuple(sorted({t for t in tops if t is not None}))
    if names and None in tops:
        loose = sum(t is None for t in tops)
        raise CallError(
            f"'{root}' has {loose} images beside its subfolders, so that their class is unknown; "
            "move them into subfolders or set data.labels=false"
        )
    if len(names) < 2:
        return (), None
    place = {name: i for i, name in enumerate(names)}
    return names, [place[str(t)] for t in tops]


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
                state[i] = ENLARGED if remark else 0
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
    root = Path(options.path).expanduser()
    if not root.is_dir():
        raise CallError(
            f"data.path '{options.path}' " + ("is not a folder" if root.exists() else "does not exist")
        )
    images, others = _files(root)
    if not images:
        raise CallError(f"data.path '{options.path}' holds no images ({', '.join(EXTENSIONS[:6])} …)")
    names, labels = _classes(options.path, images, config.labels)
    findings = []
    if others:
        text = f"{len(others)} files are not images by their names and were not read"
        findings.append(Finding("note", "other files", text, shortened(others)))

    channels = options.channels
    if channels == "auto":
        channels = 1 if all(is_grey(root / path) for path in images) else 3
        kind = {1: "grey", 3: "in colour"}[channels]
        findings.append(Finding("note", "shapes", f"the images are {kind}; data.channels says otherwise"))
    ingredients: dict[str, Any] = {
        "version": VERSION,
        "options": {**options.model_dump(exclude={"path"}), "channels": channels},
        "files": [_hash(root / path) for path in images],
    }
    found, remarks = cached("folder", ingredients, lambda: _read(root, images, options, channels, progress))
    state = found["state"].numpy()
    findings += remarks + _remarks(images, state, bytes(found["reasons"].numpy()).decode())
    good = np.flatnonzero(state != BROKEN)
    if not len(good):
        raise CallError(f"none of the {len(images)} images in '{options.path}' can be read")
    x = found["x"][torch.from_numpy(good)]
    y = None if labels is None else torch.tensor(labels)[torch.from_numpy(good)]
    spec = DataSpec.of("image", tuple(x.shape[1:]), classes=len(names), class_names=names)
    return Pool(root.name or "folder", spec, x, y, item_names=[images[i] for i in good], findings=findings)


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:  # the reading will say so by name
        return f"unreadable: {error.strerror}"


def _remarks(images: Sequence[str], state: np.ndarray, reasons: str) -> list[Finding]:
    """Findings on images that cannot be read, and on those that are smaller than asked."""
    findings = []
    broken = np.flatnonzero(state == BROKEN).tolist()
    if len(broken):
        items = tuple(f"{images[i]}: {why}" for i, why in zip(broken, reasons.split("\n"), strict=True))
        text = f"{len(broken)} of {len(images)} images cannot be read and were set aside"
        findings.append(Finding("error", "unreadable", text, items))
    small = [images[i] for i in np.flatnonzero(state == ENLARGED).tolist()]
    if small:
        text = f"{len(small)} of {len(images)} images are smaller than data.size and were enlarged"
        findings.append(
            Finding("warning" if len(small) * 10 > len(images) else "note", "shapes", text, shortened(small))
        )
    return findings
