"""Clips in a folder: animations, films and folders of frames; folders above them are classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, Levels, ValueSpec
from niwaki.core.paths import expanded
from niwaki.data.audit import LEFT_OUT, Finding, shortened
from niwaki.data.cache import cached
from niwaki.data.columns import Column
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.reading.class_folders import divided, laid_out
from niwaki.data.reading.clip_files import CLIPS, FRAMES, all_grey, gathered, read_clip
from niwaki.data.reading.walking import ending, hash_or_reason, walk
from niwaki.data.splitting import by_hash
from niwaki.modalities.movies import MOVIES, require_av

__all__ = ["ClipsOptions", "clips"]

VERSION = 1  # of the reading: a change here makes cached clips stale
LEVELS = 256


class ClipsOptions(Options):
    """Settings of `clips`.

    path:       the folder
    size:       height and width in pixels after resizing
    frames:     of a sample; a longer clip is cut into several, of one split, and what is left over is dropped
    past:       so many frames before the sample become the column `past`
    every:      frames of a file from one of a sample to the next
    rate:       frames of a sample per second
    channels:   1 grey, 3 colour; `auto` is 1 where all files are grey, else 3
    background: grey level 0 … 255 behind transparent pixels
    splits:     whether train/, val/ and test/ are the splits; default: where all subfolders are called so
    """

    path: str
    size: int = Field(default=32, ge=4, le=512)
    frames: int = Field(default=8, ge=1, le=1024)
    past: int = Field(default=0, ge=0, le=1024)
    every: int = Field(default=1, ge=1)
    rate: float | None = Field(default=None, gt=0)
    channels: Literal[1, 3, "auto"] = "auto"
    background: int = Field(default=255, ge=0, le=255)
    splits: bool | None = Field(default=None, exclude_if=lambda value: value is None)


@register("clips", ClipsOptions)
def clips(config: DataConfig, options: ClipsOptions, progress: Progress | None) -> Pool:
    """Clips `(frames, channels, size, size)` and, where asked for, `past` `(past, channels, size, size)`.

    A file `.gif`, `.webp`, `.apng` or a film (`MOVIES`, by PyAV) is a clip; so is a folder that holds other
    pictures, its frames in the order of the numbers in their names. Broken and short clips are set aside and
    named in the audit.
    Raises CallError for a path that is no folder, a folder without clips, films without PyAV, and where none
    is long enough.
    """
    root = expanded(options.path)
    if not root.is_dir():
        raise CallError(
            f"data.path '{options.path}' " + ("is not a folder" if root.exists() else "does not exist")
        )
    try:
        seen = walk(root, (*CLIPS, *FRAMES))
    except OSError as error:
        raise CallError(f"data.path '{options.path}' cannot be opened: {error.strerror or error}") from None
    found, findings = gathered(seen.files), seen.findings("clips")
    if not found:
        raise CallError(
            f"data.path '{options.path}' holds no clips: no {', '.join(CLIPS)}, and no folders of "
            f"frames ({', '.join(FRAMES)})"
        )
    if "" in found:
        raise CallError(
            f"'{options.path}' holds {len(found[''])} frames beside its folders; a clip is a folder of frames"
        )
    films = [path for path in seen.files if ending(path) in MOVIES]
    if films:
        require_av(f"reading '{films[0]}'")
    above = [folder for folder in seen.folders if folder not in found]
    layout = laid_out(options.path, list(found), above, config.labels, options.splits)
    findings += layout.findings
    channels = options.channels
    if channels == "auto":
        channels = 1 if all_grey(root, seen.files) else 3
    settings = {"size": options.size, "channels": channels, "background": options.background}
    ingredients: dict[str, Any] = {
        "version": VERSION,
        "options": {**options.model_dump(exclude={"path", "splits", "past", "rate"}), "channels": channels},
        "length": options.past + options.frames,
        "clips": {name: [hash_or_reason(root / path) for path in files] for name, files in found.items()},
    }
    kept, remarks = cached("clips", ingredients, lambda: _read(root, found, options, settings, progress))
    findings += remarks + _remarks(list(found), kept, options)
    x, owner = kept["x"], kept["owner"].numpy()
    if not len(x):
        raise CallError(
            f"none of the {len(found)} clips in '{options.path}' can be read and has "
            f"{options.past + options.frames} frames; set data.frames or data.every lower"
        )
    return _pool(root, x, owner, list(found), layout, ingredients["clips"], config, options, findings)


def _read(
    root: Path,
    found: Mapping[str, Sequence[str]],
    options: ClipsOptions,
    settings: Mapping[str, int],
    progress: Progress | None,
) -> dict[str, Tensor]:
    """Samples, the clip that each is of, and of every clip how many frames it has (−1: it is broken)."""
    length = options.past + options.frames
    shape = (length, settings["channels"], options.size, options.size)
    parts, owners, reasons = [np.zeros((0, *shape), np.uint8)], [], []
    lengths = np.full(len(found), -1, dtype=np.int64)
    for i, files in enumerate(found.values()):
        clip, reason = read_clip(root, files, settings, options.every)
        if clip is None:
            reasons.append(reason)
        else:
            lengths[i], count = len(clip), len(clip) // length
            parts.append(clip[: count * length].reshape(count, *shape))
            owners += [i] * count
        if progress:
            progress(i + 1, len(found))
    return {
        "x": torch.from_numpy(np.concatenate(parts)),
        "owner": torch.tensor(owners, dtype=torch.int64),
        "lengths": torch.from_numpy(lengths),
        "reasons": torch.from_numpy(np.frombuffer("\n".join(reasons).encode(), dtype=np.uint8).copy()),
    }


def _remarks(names: list[str], kept: dict[str, Tensor], options: ClipsOptions) -> list[Finding]:
    """Clips that cannot be read, and those that are too short."""
    lengths, found = kept["lengths"].numpy(), []
    broken = np.flatnonzero(lengths < 0)
    if len(broken):
        reasons = bytes(kept["reasons"].numpy()).decode().split("\n")
        items = tuple(f"{names[i]}: {why}" for i, why in zip(broken, reasons, strict=True))
        text = f"{len(broken)} of {len(names)} clips cannot be read and were set aside"
        found.append(Finding("error", "unreadable", text, items))
    short = [names[i] for i in np.flatnonzero((lengths >= 0) & (lengths < options.past + options.frames))]
    if short:
        text = (
            f"{len(short)} of {len(names)} clips have fewer than {options.past + options.frames} frames and "
            "were set aside"
        )
        found.append(Finding("warning", LEFT_OUT, text, shortened(short)))
    return found


def _pool(
    root: Path,
    x: Tensor,
    owner: np.ndarray,
    names: list[str],
    layout: Any,
    hashes: Mapping[str, list[str]],
    config: DataConfig,
    options: ClipsOptions,
    findings: list[Finding],
) -> Pool:
    """A clip is in one split with all that is cut from it, and so are its copies."""

    def video(part: Tensor) -> ValueSpec:
        return ValueSpec("video", tuple(part.shape[1:]), "TCHW", Levels(LEVELS), options.rate)

    files = ["\n".join(hashes[name]).encode() for name in names]
    if layout.split is None:
        split = by_hash(files, config.fractions, config.seed)
    else:
        split = divided(np.array(layout.split, np.int64), files, config.fractions, config.seed)
    before, after = x[:, : options.past].contiguous(), x[:, options.past :].contiguous()
    columns = {"x": video(after)}
    if layout.labels is not None:
        columns["class"] = ValueSpec.label(len(layout.names), layout.names)
    return Pool(
        root.name or "clips",
        DataSpec(columns),
        after,
        None if layout.labels is None else torch.tensor(layout.labels)[torch.from_numpy(owner)],
        columns={"past": Column(video(before), before)} if options.past else {},
        assignment=split[owner],
        item_names=[names[i] for i in owner],
        findings=findings,
    )
