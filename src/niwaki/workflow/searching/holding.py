"""What a search holds on disk: weights only where something goes on from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from niwaki.compression.finished import drop_superseded
from niwaki.workflow.searching.attempt import continuation
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.record import front_of
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import plan_of
from niwaki_runtime.unfinished import remove_directory

__all__ = ["drop_what_waits_for_nothing", "held_bytes", "keep_bundle"]


def drop_what_waits_for_nothing(search: Search, alive: Sequence[Candidate]) -> None:
    """Remove the trained states of candidates that are neither alive nor on the front nor set aside, and of
    which no bundle has lost nothing. Their records stay: one that is tried again is trained anew."""
    keys = tuple(search.limits) or ("size", "latency")
    stay = {c.name for c in alive} | front_of(search.candidates, keys)
    stay |= front_of(search.candidates, ("size", "latency"))  # of other budgets
    for candidate in search.candidates.values():
        if candidate.name in stay or candidate.snapshot or (candidate.bundled and candidate.lossless):
            continue
        directory = search.directory(candidate)
        if (directory / "steps").exists():
            remove_directory(directory / "steps")


def keep_bundle(search: Search, candidate: Candidate) -> None:
    """Of an exported candidate keep what it ships from and what more training goes on from."""
    plan = plan_of(search, candidate)
    last = continuation(plan)
    keep = {len(plan.steps) - 1} if last is None else {last, len(plan.steps) - 1}
    drop_superseded(search.directory(candidate), plan.steps, keep)


def held_bytes(path: Path) -> int:
    """Of all files below a directory."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
