"""Checkpoints: whole directories or nothing. A broken newest one falls back to the one before, and says
so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from niwaki.core.store import (
    atomic_directory,
    hash_file,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from niwaki.nn.low_rank import is_adapter
from niwaki_runtime.errors import NiwakiError
from niwaki_runtime.unfinished import remove_directory

__all__ = [
    "Checkpoint",
    "drop_old",
    "latest",
    "list_checkpoints",
    "model_shapes",
    "path_of",
    "read_checkpoint",
    "save_checkpoint",
]

FORMAT = 1


class Checkpoint:
    """What a checkpoint holds: named tensors (`model/…`, `ema/…`, `optimizer/<optimizer>/…`, `sums/…`) and
    a JSON record."""

    def __init__(self, tensors: dict[str, Tensor], record: dict[str, Any], path: Path | None = None) -> None:
        self.tensors, self.record, self.path = tensors, record, path

    @property
    def step(self) -> int:
        return int(self.record["step"])

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `prefix/`, by the rest of their names."""
        return {n[len(prefix) + 1 :]: t for n, t in self.tensors.items() if n.startswith(prefix + "/")}


def path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:07d}"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int, spare: int | None = None) -> Path:
    """Write `folder/step-0000100`, then drop all but the newest `keep` and that of step `spare`. Raises
    NiwakiError where the disk refuses."""
    path = path_of(folder, checkpoint.step)
    try:
        with atomic_directory(path) as temporary:
            write_tensors(temporary / "state.safetensors", checkpoint.tensors)
            digest = hash_file(temporary / "state.safetensors")
            write_json(temporary / "state.json", {"format": FORMAT, **checkpoint.record, "sha256": digest})
    except OSError as error:
        raise NiwakiError(f"the checkpoint {path} could not be written: {error.strerror or error}") from error
    drop_old(folder, keep, spare)
    return path


def drop_old(folder: Path, keep: int, spare: int | None = None) -> None:
    """Remove all but the newest `keep` and that of step `spare`; a kill leaves none half removed."""
    for old in list_checkpoints(folder)[:-keep]:
        if spare is None or old != path_of(folder, spare):
            remove_directory(old)


def list_checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(p for p in folder.glob("step-*") if p.is_dir()) if folder.is_dir() else []


def read_checkpoint(path: Path) -> Checkpoint:
    """Raises NiwakiError where it is missing, cut short, altered or newer than this version."""
    record = read_json(path / "state.json")
    if not isinstance(record, dict) or not {"format", "step", "sha256"} <= record.keys():
        raise NiwakiError(f"{path / 'state.json'} is not the record of a checkpoint")
    if record["format"] > FORMAT:
        raise NiwakiError(f"{path} was written by a newer version (format {record['format']}); update niwaki")
    if not (path / "state.safetensors").exists():
        raise NiwakiError(f"{path / 'state.safetensors'} does not exist")
    if hash_file(path / "state.safetensors") != record["sha256"]:
        raise NiwakiError(f"{path / 'state.safetensors'} is not what was written: its SHA-256 differs")
    return Checkpoint(read_tensors(path / "state.safetensors"), record, path)


def latest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole (None where there is none at all), and notes about broken ones.

    Raises NiwakiError where there are checkpoints and all of them are broken: starting over would hide the
    loss.
    """
    notes: list[str] = []
    found = list_checkpoints(folder)
    for path in reversed(found):
        try:
            return read_checkpoint(path), notes
        except NiwakiError as error:
            notes.append(f"{path.name} is broken and was passed over: {error}")
    if found:
        raise NiwakiError(
            f"no checkpoint in {folder} is whole: {notes[0]}; remove the directory to start over"
        )
    return None, notes


def model_shapes(model: nn.Module) -> dict[str, str]:
    """What must be equal for weights to fit: names, types and shapes. Adapters follow from the settings."""
    kept = {n: t for n, t in model.state_dict().items() if not is_adapter(n)}
    return {n: f"{t.dtype}{tuple(t.shape)}".replace("torch.", "") for n, t in kept.items()}
