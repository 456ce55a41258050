"""Where workers are, by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from niwaki.core.contract import CallError, nearest
from niwaki.workflow.executors.base import Executor
from niwaki.workflow.executors.clusters import RayExecutor, SlurmExecutor, library
from niwaki.workflow.executors.local import LocalExecutor

__all__ = ["PLACES", "executor", "need"]

PLACES = ("processes", "slurm", "ray")
_LIBRARY = {"slurm": "submitit", "ray": "ray"}


def need(place: str, width: int) -> None:
    """Raises CallError for an unknown place, a width below 1, a library that is not installed."""
    if place not in PLACES:
        raise CallError(f"workers are on {', '.join(PLACES)}, not on '{place}'; {nearest(place, PLACES)}")
    if width < 1:
        raise CallError(f"workers: at least 1, not {width}")
    if place in _LIBRARY and importlib.util.find_spec(_LIBRARY[place]) is None:
        library(_LIBRARY[place], place)


def executor(place: str, width: int, *, folder: Path, seconds: float) -> Executor:
    """
    folder:  for what a cluster's jobs leave
    seconds: that one call may take
    Raises CallError as `need` does, and where there is no cluster.
    """
    need(place, width)
    if place == "slurm":
        return SlurmExecutor(width, folder, seconds)
    if place == "ray":
        return RayExecutor(width)
    return LocalExecutor(width)
