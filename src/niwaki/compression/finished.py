"""Finished steps of a plan on disk: where a call goes on, and which weights nothing needs any more.

A step's record outlives its weights: of a chain of finished steps only the last one is loaded, and whatever
teaches the later ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from niwaki.compression.config import CompressConfig, StepConfig
from niwaki.core.store import hash_json, read_json
from niwaki.features import Extractor
from niwaki_runtime.unfinished import remove_directory

__all__ = [
    "BUNDLE",
    "RECORD",
    "directory_of",
    "drop_superseded",
    "finished_record",
    "finished_records",
    "has_weights",
    "keys_of",
    "last_whole",
    "tidy",
]

RECORD, BUNDLE = "record.json", "model.niwaki"
_WEIGHTS = "model.safetensors"


def keys_of(config: CompressConfig, key: str, extractor: Extractor | None) -> list[str]:
    """Of each step: the hash of all that its result follows from.

    key: of what the plan begins with
    """
    out = []
    for step in config.steps:
        key = hash_json([key, step, config.batches, config.measure])
        if extractor is not None and step.needs_extractor:
            key = hash_json([key, extractor.fingerprint])
        out.append(key)
    return out


def directory_of(workdir: Path, steps: Sequence[StepConfig], k: int) -> Path:
    return workdir / "steps" / f"{k + 1}-{steps[k].kind}"


def finished_record(directory: Path, key: str) -> dict[str, Any] | None:
    """What a step has left that was made from what this key says; None where it has not ended."""
    file = directory / RECORD
    if not file.exists():
        return None
    record: dict[str, Any] = read_json(file)
    return record if record.get("key") == key else None


def finished_records(directories: Sequence[Path], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Of the first steps, as far as they have ended one after another."""
    out: list[dict[str, Any]] = []
    for directory, key in zip(directories, keys, strict=True):
        record = finished_record(directory, key)
        if record is None:
            break
        out.append(record)
    return out


def has_weights(directory: Path) -> bool:
    return (directory / _WEIGHTS).exists()


def last_whole(
    directories: Sequence[Path], records: Sequence[dict[str, Any]], bundles: Sequence[bool]
) -> tuple[int, int | None] | None:
    """The last of these finished steps that can be gone on from, and the last one before it that teaches;
    None where there is none of the former.

    bundles: of each, whether its bundle is needed
    """
    for k in reversed(range(len(records))):
        teacher = next((i for i in reversed(range(k + 1)) if records[i].get("teaches")), None)
        whole = all(has_weights(directories[i]) for i in {k, teacher if teacher is not None else k})
        if whole and (not bundles[k] or (directories[k] / BUNDLE).exists()):
            return k, teacher
    return None


def tidy(directory: Path) -> None:
    """Remove what only the work on a step needed. The record is written before: what goes on from a kill in
    between must find the step finished."""
    shutil.rmtree(directory / "graphs", ignore_errors=True)
    if (directory / "training" / "metrics.jsonl").exists():
        (directory / "training" / "metrics.jsonl").replace(directory / "metrics.jsonl")
    shutil.rmtree(directory / "training", ignore_errors=True)


def drop_superseded(workdir: Path, steps: Sequence[StepConfig], keep: Collection[int]) -> None:
    """Remove what a plan has left but for the weights of the steps `keep`, of those that teach, and the
    records; and what other plans have left. A kill in between leaves nothing half."""
    names = {directory_of(workdir, steps, k).name: k for k in range(len(steps))}
    for directory in sorted((workdir / "steps").glob("*")):
        k = names.get(directory.name)
        if k is None:
            remove_directory(directory)
            continue
        file = directory / RECORD
        if k in keep or not file.exists() or read_json(file).get("teaches"):
            continue
        for part in directory.iterdir():
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            elif part.name != RECORD:
                with suppress(OSError):
                    part.unlink()
    for name in (_WEIGHTS, BUNDLE):  # copies of the last step's
        (workdir / name).unlink(missing_ok=True)
