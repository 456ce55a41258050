"""Does the bundle make the samples that the model makes? Same seeds, whole runs, every installed engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import niwaki_runtime
from niwaki.core.backend import TorchBackend
from niwaki.core.contract import GenerativeModel, Graph
from niwaki_runtime.engines import available
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
    seed: int = 0,
    start: int = 0,
    condition: Any = None,
    **overrides: Any,
) -> tuple[np.ndarray, dict[str, Recorder]]:
    """One sampling run of `model`: the samples, and the calls of every graph on the way (`Recorder`)."""
    graphs = {name: Recorder(graph) for name, graph in model.graphs().items()}
    samples = sample_through(model, graphs, n, seed=seed, start=start, condition=condition, **overrides)
    return samples, {name: graph for name, graph in graphs.items() if graph.calls}


@torch.no_grad()
def sample_through(
    model: GenerativeModel,
    graphs: Mapping[str, Callable[..., Any]],
    n: int,
    *,
    seed: int = 0,
    start: int = 0,
    condition: Any = None,
    **overrides: Any,
) -> np.ndarray:
    """Samples of `model` by its own sampler, which calls `graphs` in the place of the model's."""
    runners: Any = graphs
    sampler = model.sampler().override(**overrides)
    backend = TorchBackend(next(model.parameters()).device)
    rows = {k: backend.asarray(v) for k, v in resolve(model.conditions, condition, start, n).items()}
    was_training = model.training
    model.eval()
    try:
        out = sampler(runners, Noise(backend, seed, start, n), rows)
    finally:
        model.train(was_training)
    return backend.numpy(out)


def parity(
    model: GenerativeModel,
    bundle: Path | str,
    *,
    n: int = 4,
    seed: int = 0,
    condition: Any = None,
    engines: Iterable[str] | None = None,
    threads: int | None = None,
    tolerance: float = TOLERANCE,
    **overrides: Any,
) -> dict[str, Any]:
    """Samples 0 … n−1 of `seed` from torch and from the bundle, by engine and precision.

    Returns `{"engines": {engine: {precision: {"sample": e, "graphs": {name: e}, "steps": {name: [e, …]}}}},
    "exact": e, "fast": e, "tolerance", "passed", "n", "seed"}`, where every e is a largest absolute error:
    `sample` after the whole run, `steps` of each remembered call of a graph when it is given what torch was
    given there.
    `passed` is exact ≤ tolerance; a quantized bundle differs by more, and that difference is the damage, not
    a defect.
    """
    wanted, recorded = record_calls(model, n, seed=seed, condition=condition, **overrides)
    found: dict[str, dict[str, Any]] = {}
    for engine in engines or available():
        found[engine] = {}
        for precision in ("exact", "fast"):
            loaded = niwaki_runtime.load(bundle, engine=engine, precision=precision, threads=threads)
            made = loaded.sample(n, seed=seed, condition=condition, batch=n, **overrides)
            steps = {
                name: [_step_error(loaded.graphs[name], inputs, outputs) for inputs, outputs in graph.calls]
                for name, graph in recorded.items()
            }
            found[engine][precision] = {
                "sample": _error(wanted, made),
                "graphs": {name: max(errors) for name, errors in steps.items()},
                "steps": steps,
            }
    worst = {p: max(by[p]["sample"] for by in found.values()) for p in ("exact", "fast")}
    return {
        "n": n,
        "seed": seed,
        "engines": found,
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


def _step_error(runner: Any, inputs: tuple[np.ndarray, ...], outputs: tuple[np.ndarray, ...]) -> float:
    made = runner(*inputs)
    made = made if isinstance(made, tuple) else (made,)
    return max(_error(a, b) for a, b in zip(outputs, made, strict=True))


def worst_graphs(report: Mapping[str, Any], precision: str = "exact") -> dict[str, float]:
    """Largest error of each graph over the engines of a `parity` report."""
    worst: dict[str, float] = {}
    for by in report["engines"].values():
        for name, error in by[precision]["graphs"].items():
            worst[name] = max(worst.get(name, 0.0), error)
    return worst
