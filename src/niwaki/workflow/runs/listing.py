"""Runs below folders, and a line of each: its model, its data, how far it is, what it came to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from niwaki.core.errors import CallError, NiwakiError
from niwaki.report.record import RunRecord, read_run
from niwaki.report.times import batches, latency
from niwaki.workflow.run_directory import STAGES, is_run
from niwaki_runtime.errors import nearest

__all__ = ["Line", "find_runs", "line_of", "list_runs", "sort_lines"]

_DEPTH = 4
"""Folders below a given one that are looked into: runs of studies and of searches lie within other runs."""


@dataclass(frozen=True)
class Line:
    """One run.

    status:   `done`, the stage that is next, or `failed: …`; `unreadable: …` where its records are broken
    figures:  what every judge says first, by its name: value, and which way is better
    smaller, faster: bytes and milliseconds of one sample, the trained model's over the bundle's
    verdict:  by axis, its outcome
    versions: of the data (fingerprint), of the code (commit), of niwaki
    """

    path: Path
    name: str
    created: str = ""
    model: str = ""
    data: str = ""
    seed: int | None = None
    status: str = ""
    steps: int | None = None
    parameters: int | None = None
    seconds: float = 0.0
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    bytes: int | None = None
    smaller: float | None = None
    faster: float | None = None
    verdict: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def find_runs(folders: Iterable[str | Path]) -> list[Path]:
    """Runs that are given or lie below what is given, each once, in the order of their names.

    Raises CallError where a folder is not there.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise CallError(f"{folder} is not a folder; give a run, or a folder that holds runs")
        for path in sorted(_below(folder, _DEPTH)):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if is_run(folder):
        yield folder
        return
    if depth:
        for inner in folder.iterdir():
            if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
                yield from _below(inner, depth - 1)


def list_runs(folders: Iterable[str | Path]) -> list[Line]:
    """In the order of their names. Raises CallError where a folder is not there."""
    return [line_of(path) for path in find_runs(folders)]


def sort_lines(lines: Sequence[Line], key: str) -> list[Line]:
    """By `created` or `steps` (the greatest first), another field (the least first) or a figure (the best
    first); those without it come last. Raises CallError for a name that no line has."""
    fields = {"created", "name", "model", "data", "status", "steps", "seconds", "bytes", "smaller", "faster"}
    figures = {name: figure["better"] for line in lines for name, figure in line.figures.items()}
    if key not in fields and key not in figures:
        raise CallError(f"runs cannot be sorted by '{key}'; {nearest(key, [*sorted(fields), *figures])}")

    def value(line: Line) -> Any:
        return (line.figures.get(key) or {}).get("value") if key in figures else getattr(line, key)

    greatest = key in ("created", "steps", "smaller", "faster") or figures.get(key) == "higher"
    known = sorted((line for line in lines if value(line) is not None), key=value, reverse=greatest)
    return [*known, *(line for line in lines if value(line) is None)]


def line_of(path: Path) -> Line:
    """A run whose records are broken has a line that says so."""
    try:
        return _line(path, read_run(path))
    except NiwakiError as error:
        return Line(path, path.name, status=f"unreadable: {error}")


def _line(path: Path, record: RunRecord) -> Line:
    measured = record.measured
    before, after = measured.get("before") or {}, measured.get("after") or {}
    first = next(iter(batches(record)), None)
    times = [
        None if first is None else latency(record, way, first).get("median_ms") for way in ("before", "after")
    ]
    training = record.training
    return Line(
        path,
        record.name,
        created=str(record.run.get("created", "")),
        model=str((record.recipe.get("model") or {}).get("name", "")),
        data=str(record.data.get("name") or (record.recipe.get("data") or {}).get("source", "")),
        seed=record.recipe.get("seed", record.run.get("seed")),
        status=_status(record),
        steps=training.get("steps"),
        parameters=training.get("parameters"),
        seconds=sum(float(state.get("seconds") or 0.0) for state in record.stages.values()),
        figures=_figures(record),
        bytes=after.get("bytes"),
        smaller=_ratio(before.get("bytes"), after.get("bytes")),
        faster=_ratio(*times),
        verdict={
            axis: str(found["outcome"])
            for axis, found in record.comparison.items()
            if axis in ("fidelity", "diversity") and found.get("outcome")
        },
        versions=_versions(record),
    )


def _status(record: RunRecord) -> str:
    if record.failure:
        return f"failed: {record.failure.get('stage')}: {record.failure.get('error')}"
    due = [name for name in STAGES if (record.stages.get(name) or {}).get("status") != "done"]
    return f"next: {due[0]}" if due else "done"


def _figures(record: RunRecord) -> dict[str, dict[str, Any]]:
    """What the judges say last: of the bundle where it was judged, else of the trained model."""
    sections = record.sections.get("after") or record.sections.get("before") or []
    found = {}
    for section in sections:
        for figure in section.get("figures", [])[:1]:
            if figure.get("value") is not None:
                found[str(figure["name"])] = {
                    "value": figure["value"], "better": figure.get("better", ""), "judge": section["judge"]
                }  # fmt: skip
    return found


def _versions(record: RunRecord) -> dict[str, str]:
    versions = record.run.get("versions") or {}
    code = record.run.get("code") or {}
    found = {
        "niwaki": versions.get("niwaki", ""),
        "code": str(code.get("commit", ""))[:12] + ("+" if code.get("changed") else ""),
        "data": str(record.data.get("fingerprint", ""))[:12],
        "model": str((record.stages.get("train") or {}).get("result", ""))[:12],
    }
    return {name: value for name, value in found.items() if value}


def _ratio(before: float | None, after: float | None) -> float | None:
    return before / after if before and after else None
