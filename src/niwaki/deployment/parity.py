"""Does the bundle make the samples that the model makes? Same seeds, whole runs, every installed engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import niwaki_runtime
from niwaki.core.contract import GenerativeModel, Graph
from niwaki.data import Split
from niwaki.data.inputs import make_inputs
from niwaki_runtime.engines import available
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.samplers import Noise
from niwaki_runtime.specs import resolve

__all__ = ["MOST_CALLS", "TOLERANCE", "Recorder", "parity", "record_calls", "sample_through"]

TOLERANCE = 1e-4
"""Largest absolute error of a sample that a float bundle may have with `precision="exact"`."""


MOST_CALLS = 64
"""Calls of a graph that are remembered: with a cache, those of a long text would not fit into memory."""


class Recorder:
    """A graph that remembers what it was asked and what it said: in every call, or where there are more than
    64 in every second, fourth …"""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.state = graph.state
        self.calls: list[tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]] = []
        self._seen, self._every = 0, 1

    def __call__(self, *inputs: Tensor) -> Any:
        # Before the call: a sampler may write into the state that it was given.
        asked = None if self._seen % self._every else _arrays(inputs)
        out = self.graph(*inputs)
        self._seen += 1
        if asked is not None:
            self.calls.append((asked, _arrays(out if isinstance(out, tuple | list) else (out,))))
            if len(self.calls) > MOST_CALLS:
                self.calls, self._every = self.calls[::2], 2 * self._every
        return out


def _arrays(tensors: Iterable[Tensor]) -> tuple[np.ndarray, ...]:
    return tuple(t.detach().cpu().numpy().copy() for t in tensors)


def record_calls(
    model: GenerativeModel,
    n: int,
    *,
    program: str = SAMPLING,
    seed: int = 0,
    start: int = 0,
    condition: Any = None,
    **overrides: Any,
) -> tuple[np.ndarray, dict[str, Recorder]]:
    """One run of a program of `model`: its results, and the calls of every graph on the way (`Recorder`)."""
    graphs = {name: Recorder(graph) for name, graph in model.graphs().items()}
    made = sample_through(
        model, graphs, n, program=program, seed=seed, start=start, condition=condition, **overrides
    )
    return made, {name: graph for name, graph in graphs.items() if graph.calls}


def sample_through(
    model: GenerativeModel,
    graphs: Mapping[str, Callable[..., Any]],
    n: int,
    *,
    program: str = SAMPLING,
    seed: int = 0,
    start: int = 0,
    condition: Any = None,
    **overrides: Any,
) -> np.ndarray:
    """Results of a program of `model` by its own sampler, which calls `graphs` instead of its own."""
    runners: Any = graphs
    asked = model.program(program)
    sampler, backend = asked.sampler.override(**overrides), model.backend()
    rows = {k: backend.asarray(v) for k, v in resolve(asked.inputs, condition, start, n).items()}
    with model.running():
        return backend.numpy(sampler(runners, Noise(backend, seed, start, n), rows))


def parity(
    model: GenerativeModel,
    bundle: Path | str,
    *,
    n: int = 4,
    seed: int = 0,
    condition: Any = None,
    split: Split | None = None,
    engines: Iterable[str] | None = None,
    threads: int | None = None,
    tolerance: float = TOLERANCE,
    **overrides: Any,
) -> dict[str, Any]:
    """Results 0 … n−1 of `seed` from torch and from the bundle, by engine and precision, of every program.

    engines:   default: all that are installed and can run the bundle
    condition: what samples are asked for; default: rows of `split`, as `make_inputs` says
    Returns `{"engines": {engine: {precision: {"sample": e, "graphs": {name: e}, "steps": {name: [e, …]}}}},
    "programs": {name: {engine: {precision: e}}}, "exact": e, "fast": e, "tolerance", "passed", "n", "seed"}`,
    where every e is a largest absolute error (of programs but `sample`, relative to the largest result, at
    least 1): `sample` after the whole run, `steps` of each remembered call of a graph when it is given what
    torch was given there. Where what is made is fed back, which lets rounding grow, `exact` and `fast` are
    those of the calls, relative to what torch said there, at least 1.
    `passed` is exact ≤ tolerance of all; a quantized bundle differs by more, and that difference is the
    damage, not a defect.
    """
    manifest = niwaki_runtime.inspect(bundle)
    shipped = [name for name in manifest.programs if name in model.programs()]
    inputs: dict[str, Any] = {name: make_inputs(model, name, n, split) for name in shipped}
    inputs[SAMPLING] = inputs[SAMPLING] if condition is None else condition
    wanted, recorded = record_calls(model, n, seed=seed, condition=inputs[SAMPLING], **overrides)
    others = {
        name: sample_through(model, model.graphs(), n, program=name, seed=seed, condition=inputs[name])
        for name in shipped
        if name != SAMPLING
    }
    grows = {name for name in shipped if _feeds_back(model, name)}
    found: dict[str, dict[str, Any]] = {}
    calls: dict[str, dict[str, float]] = {}
    programs: dict[str, dict[str, dict[str, float]]] = {name: {} for name in others}
    for engine in engines or [name for name in available() if name not in manifest.refused]:
        found[engine], calls[engine] = {}, {}
        for precision in ("exact", "fast"):
            loaded = niwaki_runtime.load(bundle, engine=engine, precision=precision, threads=threads)
            made = loaded.sample(n, seed=seed, condition=inputs[SAMPLING], batch=n, **overrides)
            steps = {
                name: [_step_error(loaded.graphs[name], given, outputs) for given, outputs in graph.calls]
                for name, graph in recorded.items()
            }
            found[engine][precision] = {
                "sample": _error(wanted, made),
                "graphs": {name: max(errors) for name, errors in steps.items()},
                "steps": steps,
            }
            if SAMPLING in grows:
                calls[engine][precision] = max(
                    _step_error(loaded.graphs[name], given, outputs, relative=True)
                    for name, graph in recorded.items()
                    for given, outputs in graph.calls
                )
            for name, result in others.items():
                again = loaded.run(name, n, seed=seed, inputs=inputs[name], batch=n)
                scale = max(1.0, float(np.abs(result).max(initial=0.0)))
                programs[name].setdefault(engine, {})[precision] = _error(result, again) / scale
    worst = {
        p: max(
            *(calls[engine].get(p, by[p]["sample"]) for engine, by in found.items()),
            *(by[p] for name, program in programs.items() if name not in grows for by in program.values()),
            0.0,
        )
        for p in ("exact", "fast")
    }
    return {
        "n": n,
        "seed": seed,
        "engines": found,
        "programs": programs,
        **worst,
        "tolerance": tolerance,
        "passed": worst["exact"] <= tolerance,
    }


def _error(wanted: np.ndarray, made: np.ndarray) -> float:
    """Largest absolute difference; what is not finite on one side only is infinitely wrong."""
    if wanted.shape != made.shape:
        return float("inf")
    error = np.abs(wanted.astype(np.float64) - made.astype(np.float64)).max(initial=0.0)
    return float(error) if np.isfinite(error) else float("inf")


def _feeds_back(model: GenerativeModel, program: str) -> bool:
    """Whether what is made goes into what is made next: amounts let rounding grow, and of tokens one that is
    drawn at the edge of two changes all that follow."""
    asked = model.program(program)
    return asked.output.is_tokens or any(part.feeds_back for part in asked.sampler.parts())


def _step_error(
    runner: Any, inputs: tuple[np.ndarray, ...], outputs: tuple[np.ndarray, ...], *, relative: bool = False
) -> float:
    """relative: to the largest of the outputs, at least 1"""
    made = runner(*inputs)
    made = made if isinstance(made, tuple) else (made,)
    scale = [max(1.0, float(np.abs(a).max(initial=0.0))) if relative else 1.0 for a in outputs]
    return max(_error(a, b) / s for a, b, s in zip(outputs, made, scale, strict=True))


def worst_graphs(report: Mapping[str, Any], precision: str = "exact") -> dict[str, float]:
    """Largest error of each graph over the engines of a `parity` report."""
    worst: dict[str, float] = {}
    for by in report["engines"].values():
        for name, error in by[precision]["graphs"].items():
            worst[name] = max(worst.get(name, 0.0), error)
    return worst
