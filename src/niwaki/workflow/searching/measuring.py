"""Costs of bundles on the engine, and of the model before: timed in turns in one process.

What else the machine does changes from minute to minute, so the model itself is timed beside the bundles
every time: their milliseconds are told as they would have been when it was timed first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.store import read_json, write_json
from niwaki.data.inputs import make_inputs
from niwaki.deployment import Measurement, bundle_bytes
from niwaki.deployment.baselines import eager_float32, torch_threads
from niwaki.deployment.measure import bundle_way, machine, measure_together
from niwaki.deployment.memory import bundle_memory, model_memory
from niwaki.deployment.timing import Latency
from niwaki.deployment.weights import weight_bytes
from niwaki.workflow.bundle_metadata import write_bundle_metadata
from niwaki.workflow.engine_choice import engine_of
from niwaki.workflow.searching.state import Search
from niwaki.workflow.stages.verdict import provenance_of
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["latency_key", "measure_before", "measure_bundles"]

_ROUNDS = 40
_FEWEST = 3
_SHARE = 0.03
"""Of the whole time, in which the model itself is timed."""
_MODEL = "the model in torch"

Ways = dict[str, Callable[[int], Any]]


def latency_key(batch: int) -> str:
    """Of a budget, for the milliseconds of so many samples at once."""
    return "latency" if batch == 1 else f"latency@{batch}"


def measure_before(search: Search) -> dict[str, float]:
    """By key of a budget, of the model in torch, eager float32: milliseconds, bytes of its weights, network
    evaluations; peak memory where a limit is a part of it. Measured once."""
    file = search.path / "before.json"
    known: dict[str, float] = read_json(file) if file.exists() else {}
    batches = search.budget.batches
    memory = any(one.cost == "memory" and one.relative for one in search.budget.limits)
    if set(map(latency_key, batches)) | ({"memory"} if memory else set()) <= set(known):
        return known
    run = search.run
    run.reporter.stage("before", "the model in torch, eager float32")
    ways: Ways = {_MODEL: eager_float32(run.model, inputs=_inputs(search))}
    found = {"size": float(weight_bytes(run.model)), "evaluations": float(search.units.passes)}
    began = time.monotonic()
    ways[_MODEL](max(batches))
    each = len(batches) * max(time.monotonic() - began, 1e-4)
    rounds = int(np.clip(_SHARE * search.clock.seconds / each, _FEWEST, _ROUNDS))
    found |= {key: of[_MODEL] for key, of in _timed(search, ways, rounds).items()}
    if memory:
        threads = run.recipe.export.threads
        found["memory"] = float(model_memory(run.run.model, threads=threads, n=max(batches)))
    found = {**found, **{key: value for key, value in known.items() if key.startswith("latency")}}
    write_json(file, found)
    return found


def measure_bundles(
    search: Search, paths: Sequence[Path], *, seconds: float, memory: bool
) -> list[dict[str, float]]:
    """Costs of bundles by key of a budget, timed in about that many seconds."""
    export, before = search.run.recipe.export, measure_before(search)
    options: dict[str, Any] = {"precision": export.precision, "threads": export.threads}
    inputs, batches = _inputs(search), search.budget.batches
    ways: Ways = {
        str(k): bundle_way(path, inputs=inputs, engine=engine_of(export, path), **options)
        for k, path in enumerate(paths)
    }
    ways[_MODEL] = eager_float32(search.run.model, inputs=inputs)
    began = time.monotonic()
    for way in ways.values():
        way(max(batches))
    a_round = 2.0 * (time.monotonic() - began) + 0.03 * len(ways)
    search.run.reporter.stage("timing", f"{len(paths)} bundles in turns")
    taken = _timed(search, ways, int(np.clip(seconds / (a_round * len(batches)), _FEWEST, _ROUNDS)))
    out = []
    for k, path in enumerate(paths):
        costs = {key: of[str(k)] * before[key] / of[_MODEL] for key, of in taken.items()}
        costs["size"] = float(_shipped_bytes(search, path))
        if memory:
            used = bundle_memory(path, n=max(batches), engine=engine_of(export, path), **options)
            costs["memory"] = float(used)
        out.append(costs)
    return out


def _shipped_bytes(search: Search, path: Path) -> int:
    """What the bundle takes once figures, verdict and provenance are written into it."""
    run, before = search.run, measure_before(search)
    taken = {n: Latency(before[latency_key(1)], 1 / 3, 1 / 3, _ROUNDS) for n in run.recipe.export.batches}
    figures = Measurement("bundle", "openvino", "fast", 2, taken, None, 1, 1, machine()).to_json()
    with scratch_directory() as directory:
        out = write_bundle_metadata(
            path, directory / path.name, name=run.recipe.name, measured=figures,
            verdict=search.rehearsal.said, provenance=provenance_of(run, run.recipe),
        )  # fmt: skip
        return bundle_bytes(out)


def _inputs(search: Search) -> Callable[[int], Any]:
    model, rows = search.run.model, search.run.dataset.validation
    return lambda n: make_inputs(model, SAMPLING, n, rows)


def _timed(search: Search, ways: Ways, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds by key of a budget and way: the lower quartile, which others' work disturbs least."""
    with torch_threads(search.run.recipe.export.threads):
        taken = measure_together(
            ways, batches=search.budget.batches, rounds=rounds, progress=search.run.reporter.update
        )
    return {latency_key(n): {name: of[n].low_ms for name, of in taken.items()} for n in search.budget.batches}
