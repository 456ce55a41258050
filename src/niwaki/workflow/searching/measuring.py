"""Costs of bundles on the engine, and of the model before: timed in turns in one process.

What else the machine does changes from minute to minute, so the model itself is timed beside the bundles
every time: their milliseconds are told as they would have been when it was timed first. Of a diffusion that
takes many evaluations this is the model with a few of them: what all of them take follows from two numbers.

On cores that others use too, torch's threads wait for each other, and a call on two of them may last twenty
times as long as on one: the model is timed on one thread and, unless a single pass of the network shows that
they wait, on those of the export in turns, and the faster way counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from niwaki.compression.arithmetic import passes, sampling_graphs
from niwaki.compression.search.evaluations import sampled
from niwaki.core.contract import GenerativeModel
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

__all__ = ["latency_key", "measure_before", "measure_bundles", "worthwhile_threads"]

_ROUNDS = 40
_ENOUGH = 10.0
"""Seconds that any of the ways is timed at most, for each number of samples: long calls vary less."""
_FEWEST = 3
_FEWER = 3
"""By what the fewest evaluations that are tried are divided, to tell a pass and what is beside it apart."""
_SHARE = 0.03
"""Of the whole time, in which the model itself is timed."""
_PASSES, _WAITS = 3, 1.5
_MODEL, _LESS = "the model in torch", "the same with fewer evaluations"

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
    found = {"size": float(weight_bytes(run.model)), "evaluations": float(search.units.passes)}
    models = _in_torch(search)
    taken = _timed(search, {}, models, _SHARE * search.clock.seconds)
    for key, of in taken.items():
        known_with = [(many, of[name].low_ms) for name, (many, _) in models.items()]
        found[key] = _with_passes(search.units.passes, known_with)
        found[_reference(key)] = of[_MODEL].low_ms
        if of[_MODEL].uncertain:
            run.reporter.note(
                f"the {key} of the model is uncertain, for others use this machine: half of its "
                f"{of[_MODEL].runs} calls took {of[_MODEL].low_ms:.3g} to {of[_MODEL].high_ms:.3g} ms; "
                f"{found[key]:.3g} ms is what parts of it are taken of"
            )
    if memory:
        threads = run.recipe.export.threads
        found["memory"] = float(model_memory(run.run.model, threads=threads, n=max(batches)))
    found |= {key: value for key, value in known.items() if "latency" in key}
    write_json(file, found)
    return found


def measure_bundles(
    search: Search,
    paths: Sequence[Path],
    *,
    seconds: float,
    memory: bool,
    overrides: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, float]]:
    """Costs of bundles by key of a budget, timed in about that many seconds.

    overrides: fields of the sampler that each is timed with; empty where none of them has any
    """
    export, before = search.run.recipe.export, measure_before(search)
    options: dict[str, Any] = {"precision": export.precision, "threads": export.threads}
    inputs, batches = _inputs(search), search.budget.batches
    ways: Ways = {
        str(k): bundle_way(path, inputs=inputs, engine=engine_of(export, path), **options, **changes)
        for k, (path, changes) in enumerate(zip(paths, overrides or [{}] * len(paths), strict=True))
    }
    search.run.reporter.stage("timing", f"{len(set(paths))} bundles in turns")
    models = {_MODEL: _in_torch(search)[_MODEL]}
    taken = _timed(search, ways, models, seconds)
    out = []
    for k, path in enumerate(paths):
        costs = {
            key: of[str(k)].low_ms * before[_reference(key)] / of[_MODEL].low_ms for key, of in taken.items()
        }
        costs["size"] = float(_shipped_bytes(search, path))
        if memory:
            used = bundle_memory(path, n=max(batches), engine=engine_of(export, path), **options)
            costs["memory"] = float(used)
        out.append(costs)
    return out


def _shipped_bytes(search: Search, path: Path) -> int:
    """What the bundle takes once figures, verdict and provenance are written into it."""
    run, before = search.run, measure_before(search)
    first = before[latency_key(min(search.budget.batches))]
    taken = {n: Latency(first, 1 / 3, 1 / 3, _ROUNDS) for n in run.recipe.export.batches}
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


def _in_torch(search: Search) -> dict[str, tuple[int, Callable[[int], Any]]]:
    """The model as it is timed: passes of the network, and the way; of a diffusion twice, with few passes."""
    model, few, inputs = search.run.model, search.template.evaluations, _inputs(search)
    if not few:
        return {_MODEL: (search.units.passes, eager_float32(model, inputs=inputs))}
    fewest = {_MODEL: few[-1], _LESS: max(1, few[-1] // _FEWER)}
    made = {name: sampled(model, evaluations, None) for name, evaluations in fewest.items()}
    return {name: (passes(one), eager_float32(one, inputs=inputs)) for name, one in made.items()}


def _with_passes(wanted: int, known: Sequence[tuple[int, float]]) -> float:
    """Milliseconds with so many passes, where they are known with one or two other numbers of them."""
    (many, ms), *others = known
    if not others or others[0][0] == many:
        return ms * wanted / many
    fewer, less = others[0]
    each = (ms - less) / (many - fewer)
    if not 0.0 < each < ms / many:  # others' work has disturbed one of them
        return ms * wanted / many
    return ms + each * (wanted - many)


def _reference(key: str) -> str:
    """Of what is measured before, the milliseconds of the model as it is timed beside bundles."""
    return f"beside bundles, {key}"


def _timed(
    search: Search, ways: Ways, models: Mapping[str, tuple[int, Callable[[int], Any]]], seconds: float
) -> dict[str, dict[str, Latency]]:
    """By key of a budget and way, timed in about so many seconds, beside models in torch. What counts is the
    lower quartile, which others' work disturbs least."""
    batches = search.budget.batches
    threads = worthwhile_threads(search.run.model, search.run.recipe.export.threads)
    every = dict(ways)
    for name, (_, way) in models.items():
        every |= {f"{name}, threads: {k}": _on_threads(way, k) for k in threads}
    taken = measure_together(
        every, batches=batches, rounds=_ROUNDS, progress=search.run.reporter.update,
        seconds=min(seconds / len(batches), _ENOUGH * len(every)), fewest=_FEWEST,
    )  # fmt: skip
    out: dict[str, dict[str, Latency]] = {}
    for n in batches:
        out[latency_key(n)] = {name: taken[name][n] for name in ways}
        for name in models:
            model = (taken[f"{name}, threads: {k}"][n] for k in threads)
            out[latency_key(n)][name] = min(model, key=lambda one: one.low_ms)
    return out


def worthwhile_threads(model: GenerativeModel, most: int) -> list[int]:
    """1 and `most`, but for those on which a pass of the network takes longer by `_WAITS` than on one."""

    def a_pass() -> float:
        began = time.perf_counter()
        with torch.no_grad():
            for graph in sampling_graphs(model).values():
                graph(*graph.example(1))
        return time.perf_counter() - began

    took: dict[int, float] = {}
    for threads in sorted({1, most}):
        with torch_threads(threads):
            took[threads] = min(a_pass() for _ in range(_PASSES))
    return [k for k, seconds in took.items() if seconds <= _WAITS * took[1]]


def _on_threads(way: Callable[[int], Any], threads: int) -> Callable[[int], Any]:
    def call(n: int) -> Any:
        with torch_threads(threads):
            return way(n)

    return call
