"""The logs that trainings leave in a run directory: the run's own, and those of steps of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from niwaki.core.store import read_json

__all__ = ["Log", "logs_of"]


@dataclass(frozen=True)
class Log:
    """One training's.

    key:    the same for the same training, wherever its file lies meanwhile; empty for the run's own
    prefix: of the names of its figures
    """

    key: str
    prefix: str
    path: Path


def logs_of(run: Path) -> Iterator[Log]:
    """Of a run directory, in the order in which they came about."""
    yield Log("", "", run / "metrics.jsonl")
    for folder in sorted(_steps(run), key=lambda path: int(path.name.partition("-")[0])):
        key = _key(folder)
        for path in sorted(folder.rglob("metrics.jsonl")):
            # While a step trains its log lies in `training/`, afterwards beside its weights.
            inside = [part for part in path.relative_to(folder).parts[:-1] if part != "training"]
            name = "/".join((folder.name, *inside))
            yield Log(f"{name}@{key}", f"compress/{name}/", path)


def _steps(run: Path) -> list[Path]:
    found = (run / "compressed" / "steps").glob("*-*")
    return [path for path in found if path.name.partition("-")[0].isdigit()]


def _key(step: Path) -> str:
    """What the step was made from: another plan may have one of the same name."""
    file = step / "begun.json"
    return str(read_json(file).get("key", ""))[:16] if file.exists() else ""
