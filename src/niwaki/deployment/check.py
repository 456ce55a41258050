"""Does an exported graph compute what torch does? Asked of every installed engine, at several batches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from niwaki.core.contract import Graph, NiwakiError
from niwaki_runtime.engines import GraphRunner, available, open_graph

__all__ = [
    "Checked",
    "Reference",
    "batches_of",
    "check_engines",
    "check_graph",
    "compared",
    "graph_errors",
    "must_run",
    "on_engines",
    "open_runner",
    "references",
    "repeatable",
]

_LARGE, _VALUES = 33, 1 << 18  # samples, values of a large batch: larger ones would take long to check


@dataclass(frozen=True)
class Checked:
    """What a check of one graph found.

    batches: samples that were computed at once
    measure: what `errors` are
    errors:  by engine and output
    refused: engines that cannot run the file, with the reason
    """

    batches: tuple[int, ...]
    measure: str
    errors: Mapping[str, Mapping[str, float]]
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def worst(self) -> dict[str, float]:
        """The largest error by engine."""
        return {engine: max(found.values(), default=0.0) for engine, found in self.errors.items()}

    def to_json(self) -> dict[str, Any]:
        """For the manifest: the largest error by engine."""
        return {"batches": list(self.batches), "measure": self.measure, "engines": self.worst}


@dataclass(frozen=True)
class Reference:
    """What torch makes of example inputs: arrays that nobody else holds."""

    batch: int
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]


def open_runner(
    engine: str, graph: Graph, path: Path, *, precision: str = "exact", threads: int | None = None
) -> GraphRunner:
    """The file of `graph` on an engine, called as the graph itself is."""
    return open_graph(
        engine,
        path,
        precision=precision,
        threads=threads,
        inputs=graph.input_names,
        outputs=graph.output_names,
        state=graph.state,
    )


def batches_of(graph: Graph, module: nn.Module) -> tuple[int, ...]:
    """One, two and three samples, and a large batch: as many as make some 10⁵ values, 5 … 33."""
    inputs = graph.example(1)
    values = sum(x.numel() for x in (*inputs, *_called(module, inputs)))
    return 1, 2, 3, max(5, min(_LARGE, _VALUES // max(values, 1)))


def _called(module: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The outputs for copies of the inputs: a module may write into what it is given."""
    with torch.no_grad():
        out = module(*(x.detach().cpu().clone() for x in inputs))
    return tuple(out) if isinstance(out, tuple | list) else (out,)


def references(graph: Graph, module: nn.Module, batches: Iterable[int]) -> list[Reference]:
    """What torch makes of `graph.example(n, seed=n)` for each n of `batches`."""
    found = []
    for n in batches:
        inputs = graph.example(n, seed=n)
        outputs = tuple(o.detach().cpu().numpy().copy() for o in _called(module, inputs))
        found.append(Reference(n, tuple(x.cpu().numpy().copy() for x in inputs), outputs))
    return found


def repeatable(name: str, module: nn.Module, reference: Reference) -> None:
    """Torch is asked once more before an engine is blamed. Raises NiwakiError where it does not repeat
    itself."""
    again = _called(module, [torch.from_numpy(x.copy()) for x in reference.inputs])
    for a, b in zip(reference.outputs, again, strict=True):
        if a.shape != tuple(b.shape) or not np.array_equal(a, b.numpy(), equal_nan=True):
            raise NiwakiError(
                f"the module of the graph '{name}' gives other values for equal inputs when it is called "
                "again: it draws noise or keeps state in its forward; hand the noise in as an input "
                "(adapt(…, noise='input')), and keep nothing from call to call"
            )


def compared(
    graph: Graph, runner: GraphRunner, reference: Reference
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each output by name, as torch and as the engine makes it. Raises NiwakiError where shapes differ."""
    made = runner(*(x.copy() for x in reference.inputs))
    made = made if isinstance(made, tuple) else (made,)
    for name, a, b in zip(graph.output_names, reference.outputs, made, strict=True):
        if a.shape != b.shape:
            raise NiwakiError(
                f"the output '{name}' has the shape {b.shape} in {runner.engine}, {a.shape} in torch, "
                f"with {reference.batch} samples; let the module treat every batch alike"
            )
        yield name, a, b


def graph_errors(
    graph: Graph, module: nn.Module, runner: GraphRunner, batches: Sequence[int] = (1, 2, 3)
) -> dict[str, float]:
    """Largest absolute error of each output over the batches, relative to its largest value (at least 1).

    Raises NiwakiError where the shapes differ; a value that is not finite counts as an infinite error.
    """
    return _worst(_errors(graph, runner, references(graph, module, batches)))


def _errors(
    graph: Graph, runner: GraphRunner, references: Iterable[Reference]
) -> dict[tuple[str, int], float]:
    """The error of each output and reference (by its place)."""
    found = {}
    for k, reference in enumerate(references):
        for name, a, b in compared(graph, runner, reference):
            scale = max(1.0, float(np.abs(a).max(initial=0.0)))
            error = float(np.abs(a.astype(np.float64) - b).max(initial=0.0)) / scale
            found[name, k] = error if np.isfinite(error) else np.inf
    return found


def _worst(errors: Mapping[tuple[str, int], float]) -> dict[str, float]:
    worst: dict[str, float] = {}
    for (name, _), error in errors.items():
        worst[name] = max(worst.get(name, 0.0), error)
    return worst


def on_engines(
    graph: Graph, path: Path, batches: Iterable[int]
) -> tuple[dict[str, GraphRunner], dict[str, str]]:
    """The installed engines that can run a graph's file, and why the others cannot.

    Each is tried with as many samples as `batches` say. Raises NiwakiError where none can.
    """
    runners, refused = {}, {}
    for engine in available():
        try:
            runner = open_runner(engine, graph, path)
            for n in batches:
                runner(*(x.cpu().numpy().copy() for x in graph.example(n, seed=n)))
            runners[engine] = runner
        except (NiwakiError, RuntimeError) as error:  # some fail when they are called, with what they like
            refused[engine] = _reason(error)
    if refused and not runners:
        raise NiwakiError(
            f"no installed engine can run the graph '{path.stem}': "
            + "; ".join(f"{engine}: {reason}" for engine, reason in refused.items())
            + "; write that operator another way"
        )
    return runners, refused


def _reason(error: Exception) -> str:
    """Why an engine cannot run a file, without its own files and numbers."""
    text = str(error)
    operator = re.search(
        r"(?:operations|failed for|implementation for):?\s*(?:\w+\.)*(\w+)(?:[-(]\d+)?", text
    )
    if operator:
        return f"it has no form of the operator {operator[1]} that the graph uses"
    line = text.strip().splitlines()[-1] if text.strip() else type(error).__name__
    return re.sub(r"(/[\w.+-]+)+/?", "…", line)[:200]


def check_graph(
    name: str,
    graph: Graph,
    module: nn.Module,
    path: Path,
    *,
    tolerance: float = 1e-4,
    engines: Sequence[str] | None = None,
) -> Checked:
    """Errors by engine and output, at batches of 1, 2, 3 and a large one.

    engines: those that must compute what torch does; None is all that are installed and can run the file
    Raises NiwakiError where an error exceeds `tolerance`, or one of `engines` cannot run the file.
    """
    batches = batches_of(graph, module)
    wanted = references(graph, module, batches)
    runners, refused = on_engines(graph, path, batches[:1])
    must_run(name, refused, engines)
    found: dict[str, dict[str, float]] = {}
    for engine, runner in runners.items():
        errors = _errors(graph, runner, wanted)
        worst = _worst(errors)
        output = max(worst, key=worst.__getitem__)
        if worst[output] <= tolerance:
            found[engine] = worst
            continue
        at = next(wanted[k] for (o, k), error in errors.items() if o == output and error == worst[output])
        repeatable(name, module, at)
        said = (
            f"{engine} computes the output '{output}' of the graph '{name}' with an error of "
            f"{worst[output]:.2g} with {at.batch} samples, more than {tolerance:.2g}"
        )
        if engines is not None and engine not in engines:
            refused[engine] = f"it errs by {worst[output]:.2g} with {at.batch} samples"
            continue
        others = [other for other in runners if other != engine]
        raise NiwakiError(f"{said}; {_advice(others)}")
    return Checked(batches, "largest difference from torch, relative to the largest value", found, refused)


def check_engines(name: str, graph: Graph, path: Path) -> Checked:
    """How far the installed engines are from the first of them that can run a file, which has no counterpart
    in torch (a quantized one): mean differences in standard deviations, by engine and output.

    Raises NiwakiError where none can run it, or one makes values that are not finite where another does not.
    """
    batches = (1, 3)
    runners, refused = on_engines(graph, path, batches)
    first = next(iter(runners))
    wanted = []
    for n in batches:
        inputs = tuple(x.cpu().numpy().copy() for x in graph.example(n, seed=n))
        made = runners[first](*(x.copy() for x in inputs))
        wanted.append(Reference(n, inputs, made if isinstance(made, tuple) else (made,)))
    found: dict[str, dict[str, float]] = {}
    for engine, runner in runners.items():
        found[engine] = dict.fromkeys(graph.output_names, 0.0)
        for reference in () if engine == first else wanted:
            for output, a, b in compared(graph, runner, reference):
                spread = max(float(a.std()), 1e-3)
                error = float(np.abs(a.astype(np.float64) - b).mean()) / spread
                if np.isfinite(a).all() and not np.isfinite(error):
                    raise NiwakiError(
                        f"{engine} makes values that are not finite in the graph '{name}', and {first} does "
                        "not; leave layers in float"
                    )
                found[engine][output] = max(found[engine][output], error if np.isfinite(error) else 0.0)
    return Checked(batches, f"mean difference from {first}, in standard deviations", found, refused)


def _advice(others: Sequence[str]) -> str:
    way = "write the operator that it gets wrong another way"
    if not others:
        return f"{way}, or export with check=False"
    return f"{way}, or export for others alone (engines={tuple(others)!r})"


def must_run(name: str, refused: Mapping[str, str], engines: Sequence[str] | None) -> None:
    """Raises NiwakiError where one of `engines` is among those that cannot run a graph."""
    for engine in engines or ():
        if engine in refused:
            raise NiwakiError(
                f"{engine} cannot run the graph '{name}': {refused[engine]}; write it another way, or export "
                "for another engine"
            )
