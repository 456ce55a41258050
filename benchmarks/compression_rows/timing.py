"""Latency of all rows in turns in one process, and the peak memory of each in a fresh one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compression_rows.artefact import Artefact, way_of
from niwaki.deployment import measure_together
from niwaki.deployment.baselines import torch_threads
from niwaki.deployment.memory import peak_above_empty

__all__ = ["BATCHES", "latencies", "peak_memory"]

BATCHES = (1, 16)
"""What is timed. Judged is in batches of the larger one: what compiles does so once for each size."""


def latencies(
    artefacts: Mapping[str, Artefact],
    *,
    rounds: int,
    threads: int,
    progress: Callable[[int, int], None],
) -> dict[str, dict[str, Any]]:
    """name → batch → median and quartiles in milliseconds; without what does not run in this process."""
    ways: dict[str, Callable[[int], Any]] = {}
    with torch_threads(threads):
        for name, artefact in artefacts.items():
            try:
                way = way_of(artefact, threads)
                for n in BATCHES:
                    way(n)
            except Exception:  # it ran in a process of its own: the row has its quality, and no latency
                continue
            ways[name] = way
        found = measure_together(ways, batches=BATCHES, rounds=rounds, progress=progress)
    return {name: {str(n): latency.to_json() for n, latency in by.items()} for name, by in found.items()}


def peak_memory(artefact: Artefact, *, threads: int, repeats: int = 3) -> int | None:
    """Bytes above numpy and the engine (torch), of one batch of the largest size; None for what is compiled:
    the peak would be the compiler's. Raises NiwakiError where the process fails."""
    if artefact.kind == "torch" and artefact.engine != "eager":
        return None
    program, told = ["-m", "compression_rows.peak"], [artefact.to_json(), threads, max(BATCHES)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return peak_above_empty(program, told, repeats, environment)
