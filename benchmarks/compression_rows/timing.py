"""Latency of all rows in turns in one process, and the peak memory of each in a fresh one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from compression_rows.artefact import Artefact, way_of
from niwaki.contract import NiwakiError
from niwaki.deployment import measure_together
from niwaki.deployment.baselines import torch_threads

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
    folder = Path(__file__).parent.parent
    found = []
    for _ in range(repeats):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "compression_rows.peak",
                json.dumps([artefact.to_json(), threads, max(BATCHES)]),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["it was killed"]
            raise NiwakiError(f"the process whose memory was to be measured failed: {last[0]}")
        empty, full = json.loads(done.stdout.strip().splitlines()[-1])
        found.append(full - empty)
    return int(median(found))
