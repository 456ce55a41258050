"""Where a search stands, for whoever watches it: what was tried until now, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from niwaki.core.errors import NiwakiError
from niwaki.core.store import jsonable, read_json
from niwaki.workflow.lock import is_locked
from niwaki.workflow.run_directory import is_run
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.record import SearchRecord, rows_of
from niwaki.workflow.searching.state import ASKED

__all__ = ["Standing", "find_searches", "standing_of"]


@dataclass(frozen=True)
class Standing:
    """A search as it now is.

    going:      whether a process works on it
    budget:     as it was asked for, and its limits in units by key; empty where nothing says so yet
    seconds:    that were given; spent: of them until now
    candidates: as in `SearchRecord`, those that were tried
    chosen:     name of the candidate that ships; None where none does, or none does yet
    text:       why nothing was chosen; empty else
    """

    path: Path
    going: bool
    budget: str = ""
    limits: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    spent: float = 0.0
    candidates: list[dict[str, Any]] = field(default_factory=list)
    chosen: str | None = None
    text: str = ""
    verdict: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = jsonable(vars(self))
        return record


def find_searches(runs: Iterable[Path]) -> list[Path]:
    """Directories of searches: runs that hold one, and such runs within runs."""
    found = []
    for run in runs:
        inner = sorted(p for p in run.iterdir() if is_run(p)) if run.is_dir() else []
        found += [place for place in (run, *inner) if _is_search(place)]
    return found


def _is_search(path: Path) -> bool:
    return (path / SearchRecord.file).is_file() or any((path / "study").glob(f"*/{ASKED}"))


def standing_of(path: Path) -> Standing:
    """Of the search in a run directory: its record where it has ended, else what lies there of its work.

    Raises NiwakiError where its record is broken.
    """
    going = is_locked(path)
    record = SearchRecord.read(path)
    study = _study(path)
    asked = read_json(study / ASKED) if study is not None and (study / ASKED).is_file() else {}
    ended = (path / SearchRecord.file).stat().st_mtime if record is not None else 0.0
    if record is not None and ended >= asked.get("began", 0.0) and not going:
        return Standing(
            path, going, record.budget, record.limits, record.seconds, record.spent, record.candidates,
            record.chosen, str(record.refusal.get("text", "")), record.verdict,
        )  # fmt: skip
    limits = {str(k): float(v) for k, v in asked.get("limits", {}).items()}
    spent = max(0.0, (time.time() if going else _last(study)) - asked.get("began", 0.0)) if asked else 0.0
    return Standing(
        path, going, str(asked.get("budget", "")), limits, float(asked.get("seconds", 0.0)), spent,
        rows_of(_candidates(study), limits, tuple(limits)),
    )  # fmt: skip


def _study(path: Path) -> Path | None:
    """The one that was worked on last."""
    found = [p for p in (path / "study").glob("*") if p.is_dir()]
    return max(found, key=lambda p: _last(p), default=None)


def _last(study: Path | None) -> float:
    """When something was last written there."""
    if study is None:
        return 0.0
    files = [study / ASKED, *study.glob("candidates/*/candidate.json")]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=study.stat().st_mtime)


def _candidates(study: Path | None) -> dict[str, Candidate]:
    """Those that lie there; one of another edition is left out."""
    found = {}
    for file in sorted(study.glob("candidates/*/candidate.json")) if study is not None else ():
        try:
            candidate = Candidate.from_json(read_json(file))
        except (NiwakiError, KeyError, TypeError, ValueError):
            continue
        found[candidate.name] = candidate
    return found
