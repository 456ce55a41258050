"""Samples that arrive in a folder or grow in an array file: those that no earlier call has taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from niwaki.core.contract import CallError
from niwaki.core.store import hash_bytes, hash_file
from niwaki.data.reading.picture_sets import PICTURES
from niwaki.data.reading.walking import HIDDEN, ending
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.subjects.array_samples import read_arrays
from niwaki.workflow.subjects.files import is_arrays, read_folder
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["Arrived", "arrived"]


@dataclass(frozen=True)
class Arrived:
    """x: `(n, *shape)` in the order of their coming; taken: by file, what is known of it now; broken: files
    that cannot be read, and why"""

    x: np.ndarray
    taken: dict[str, str]
    broken: list[dict[str, str]]


def arrived(place: Path, context: EvaluationContext, taken: Mapping[str, str]) -> Arrived:
    """What is new at a place: pictures and array files of a folder by the time of their last change, rows
    that were added to an array file.

    taken: what `Arrived.taken` was after the last call
    Raises CallError where the place is missing, holds no samples, or others than the data's.
    """
    if not place.exists():
        raise CallError(f"{place} does not exist")
    if place.is_file() and not is_arrays(place):
        raise CallError(f"{place} is neither a folder nor an .npz or .npy file")
    files = [place] if place.is_file() else _files(place)
    base = place.parent if place.is_file() else place
    state, parts, broken = dict(taken), list[np.ndarray](), list[dict[str, str]]()
    pictures: list[tuple[str, Path]] = []
    for file in files:
        name = file.relative_to(base).as_posix()
        if is_arrays(file):
            x, state[name] = _rows(file, context, state.get(name, ""))
            parts.append(x)
        else:
            mark = hash_file(file)
            if state.get(name) != mark:
                pictures.append((name, file))
                state[name] = mark
    if pictures:
        x, broken = _pictures(pictures, context)
        parts.append(x)
    shape = context.dataset.spec.shape
    return Arrived(np.concatenate(parts) if parts else np.zeros((0, *shape), np.float32), state, broken)


def _files(folder: Path) -> list[Path]:
    found = [
        p
        for p in folder.rglob("*")
        if p.is_file() and not p.name.startswith(HIDDEN) and (is_arrays(p) or ending(p.name) in PICTURES)
    ]
    return sorted(found, key=lambda p: (p.stat().st_mtime, p.as_posix()))


def _rows(file: Path, context: EvaluationContext, mark: str) -> tuple[np.ndarray, str]:
    """Rows after those that were taken; all of them where those are no longer the same.

    mark: `rows:hash` of what was taken
    """
    extra = getattr(context.data, "model_extra", None) or {}
    x = read_arrays(file, context.dataset.spec, units=extra.get("value_range")).x
    count, _, digest = mark.partition(":")
    known = int(count or 0)
    if known > len(x) or (known and _digest(x[:known]) != digest):
        known = 0
    return x[known:], f"{len(x)}:{_digest(x)}"


def _digest(x: np.ndarray) -> str:
    return hash_bytes(np.ascontiguousarray(x).tobytes())[:16]


def _pictures(
    files: list[tuple[str, Path]], context: EvaluationContext
) -> tuple[np.ndarray, list[dict[str, str]]]:
    """New ones alone, read as a folder of their own whose names keep the order."""
    extra = getattr(context.data, "model_extra", None) or {}
    with scratch_directory() as directory:
        originals = {}
        for k, (name, file) in enumerate(files):
            link = directory / f"{k:08d}{file.suffix.lower()}"
            link.symlink_to(file.resolve())
            originals[link.name] = name
        found = read_folder(
            directory, context.dataset.spec, background=int(extra.get("background", 255)), resize=True
        )
        broken = [{**row, "file": originals.get(row["file"], row["file"])} for row in found.broken]
        return found.x, broken
