"""Folders of sound files, cut into windows of one length. No file is in two splits, or no moment of one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from niwaki.core.contract import CallError, DataSpec
from niwaki.core.paths import expanded
from niwaki.core.store import hash_bytes
from niwaki.data.audit import CLIPPED, LEFT_OUT, Finding, shortened
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.reading.class_folders import divided, laid_out
from niwaki.data.reading.sounds import (
    EXTENSIONS,
    clipping,
    read_sound,
    resampled,
    trimmed,
    with_channels,
)
from niwaki.data.reading.walking import walk
from niwaki.data.splitting import by_hash

__all__ = ["RecordingsOptions", "recordings"]

_FILES = 30
"""As many files are divided whole; of fewer each is cut into blocks of time."""


class RecordingsOptions(Options):
    """Settings of `recordings`.

    path:     the folder, or one file; two or more subfolders are classes, or the splits where they are called
              so
    length:   steps of a window
    stride:   steps between two windows; default: `length`
    rate:     steps per second; other files are resampled; default: that of most files
    channels: 1, their mean, or 2
    trim:     silence at both ends is what is quieter than the loudest moment by this many dB; 0 keeps it
    short:    what becomes of files shorter than a window: `pad` fills them up with silence, `drop` leaves
              them out
    divide:   `files`: each is in one split; `time`: the first part of each is for training, then comes
              validation, then test; default: files where there are 30 or more
    splits:   whether train/, val/ and test/ are the splits; default: where all subfolders are called so
    """

    path: str
    length: int = Field(default=4096, ge=16, le=10_000_000)
    stride: int | None = Field(default=None, ge=1)
    rate: float | None = Field(default=None, ge=100, le=1_000_000)
    channels: Literal[1, 2] = 1
    trim: float = Field(default=50.0, ge=0, le=200)
    short: Literal["pad", "drop"] = "pad"
    divide: Literal["files", "time"] | None = None
    splits: bool | None = None


@dataclass
class _Cut:
    """Windows, and what was odd on the way: names of files by finding."""

    windows: list[np.ndarray] = field(default_factory=list)
    of: list[int] = field(default_factory=list)  # number of the file of each window
    numbers: list[int] = field(default_factory=list)  # of its split, where time is divided
    names: list[str] = field(default_factory=list)
    odd: dict[str, list[str]] = field(default_factory=dict)
    clipped: int = 0

    def note(self, kind: str, name: str) -> None:
        self.odd.setdefault(kind, []).append(name)


@register("recordings", RecordingsOptions)
def recordings(config: DataConfig, options: RecordingsOptions, progress: Progress | None) -> Pool:
    """Sounds `(length,)`, or `(2, length)`, in −1 … 1.

    Files that cannot be read are set aside and named in the audit.
    Raises CallError for a path that is none, a folder without sound files, one in which none can be read or
    all are too short.
    """
    root, files, folders, findings = _files(options.path)
    layout = laid_out(options.path, files, folders, config.labels, options.splits, "sound files")
    findings += layout.findings
    read, hashes = {}, []
    for i, name in enumerate(files):
        try:
            read[i] = read_sound(root / name, name)
            hashes.append(hash_bytes(read[i].values.tobytes()).encode())
        except CallError as error:
            hashes.append(b"")
            findings.append(Finding("error", "unreadable", str(error), (name,)))
        if progress:
            progress(i + 1, len(files))
    if not read:
        raise CallError(
            f"none of the {len(files)} sound files in '{options.path}' can be read; {findings[-1].text}"
        )
    rate = options.rate or Counter(sound.rate for sound in read.values()).most_common(1)[0][0]
    by_time = (
        layout.split is None and (options.divide or ("files" if len(read) >= _FILES else "time")) == "time"
    )
    found = _Cut()
    for i, sound in read.items():
        if sound.rate != rate:
            found.note("resampled", files[i])
        if (cut_off := clipping(sound.values)) > 0:
            found.note("clipped", files[i])
            found.clipped += cut_off
        values = resampled(with_channels(sound.values, options.channels), sound.rate, rate)
        begin, end = trimmed(values, rate, options.trim) if options.trim else (0, values.shape[1])
        if end - begin < values.shape[1]:
            found.note("trimmed" if end > begin else "silent", files[i])
        _cut(found, values[:, begin:end], i, files[i], config.fractions if by_time else None, options)
    findings += _said(found, len(read), rate)
    if not found.windows:
        raise CallError(
            f"no file in '{options.path}' is as long as data.length = {options.length} steps at {rate:g} a "
            "second; shorten it, or set data.short=pad"
        )
    x = np.clip(np.stack(found.windows), -1.0, 1.0).astype(np.float32)
    of = np.array(found.of)
    if by_time:
        assignment = np.array(found.numbers)
    else:
        whole = by_hash(hashes, config.fractions, config.seed)
        if layout.split is not None:
            whole = divided(np.array(layout.split), hashes, config.fractions, config.seed)
        assignment = whole[of]
    names = layout.names
    shape = (options.length,) if options.channels == 1 else (2, options.length)
    spec = DataSpec.of("audio", shape, classes=len(names), class_names=names)
    spec = replace(spec, columns={**spec.columns, "x": replace(spec.x, rate=float(rate))})
    y = None if layout.labels is None else torch.tensor(layout.labels)[torch.from_numpy(of)]
    return Pool(
        root.name or "recordings",
        spec,
        torch.from_numpy(x if options.channels == 2 else x[:, 0]),
        y,
        assignment=assignment.astype(np.int64),
        item_names=found.names,
        findings=findings,
    )


def _files(path: str) -> tuple[Path, list[str], Sequence[str], list[Finding]]:
    """The folder, its sound files and subfolders, and what was passed by."""
    root = expanded(path)
    if root.is_file():
        return root.parent, [root.name], [""], []
    if not root.is_dir():
        raise CallError(f"data.path '{path}' " + ("is no folder" if root.exists() else "does not exist"))
    try:
        seen = walk(root, EXTENSIONS)
    except OSError as error:
        raise CallError(f"data.path '{path}' cannot be opened: {error.strerror or error}") from None
    findings = seen.findings("sound files")
    if not seen.files:
        why = "; ".join(f.text for f in findings)
        raise CallError(
            f"data.path '{path}' holds no sound files ({', '.join(EXTENSIONS[:4])} …)"
            + (f": {why}" if why else "")
        )
    return root, sorted(seen.files), seen.folders, findings


def _cut(
    found: _Cut,
    values: np.ndarray,
    file: int,
    name: str,
    fractions: tuple[float, float, float] | None,
    options: RecordingsOptions,
) -> None:
    """Windows of one file `(C, T)`; fractions: of its blocks of time, None for a file in one split."""
    length, total = options.length, values.shape[1]
    if not total:
        return
    edges = [0, total]
    if fractions is not None:
        edges = [0, *(round(total * share) for share in np.cumsum(fractions)[:-1]), total]
    if total < length or (fractions is not None and max(np.diff(edges)) < length):
        found.note("short", name)
        if options.short == "drop" or fractions is not None:
            return
        values, edges = np.pad(values, ((0, 0), (0, length - total))), [0, length]
    for number, (begin, end) in enumerate(itertools.pairwise(edges)):
        for start in range(begin, end - length + 1, options.stride or length):
            found.windows.append(values[:, start : start + length])
            found.of.append(file)
            found.numbers.append(number)
            found.names.append(f"{name} from step {start}")


def _said(found: _Cut, files: int, rate: float) -> list[Finding]:
    """What was done to files, by kind; the gravest is clipping."""
    texts = {
        "clipped": ("warning", CLIPPED, f"are clipped: {found.clipped:,} values in rows at full scale"),
        "silent": ("warning", LEFT_OUT, "are silent, and were not read"),
        "short": ("warning", "shapes", "are shorter than a window (data.short)"),
        "resampled": ("note", "shapes", f"were resampled to {rate:g} steps a second"),
        "trimmed": ("note", "trimmed", "had silence at their ends, which was cut off (data.trim=0 keeps it)"),
    }
    return [
        Finding(level, kind, f"{len(found.odd[what])} of {files} files {text}", shortened(found.odd[what]))  # type: ignore[arg-type]
        for what, (level, kind, text) in texts.items()
        if what in found.odd
    ]
