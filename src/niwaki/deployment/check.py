"""Does an exported graph compute what torch does? Asked of every installed engine, at several batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from niwaki.core.contract import Graph, NiwakiError
from niwaki_runtime.engines import GraphRunner, available, open_graph

__all__ = ["check_graph", "graph_errors", "open_runner"]


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


def graph_errors(
    graph: Graph, module: nn.Module, runner: GraphRunner, batches: tuple[int, ...] = (1, 2, 3)
) -> dict[str, float]:
    """Largest absolute error of each output over the batches, relative to its largest value (at least 1).

    Raises NiwakiError where the shapes differ; a value that is not finite counts as an infinite error.
    """
    worst = dict.fromkeys(graph.output_names, 0.0)
    for n in batches:
        inputs = graph.example(n, seed=n)
        with torch.no_grad():
            wanted = module(*(x.cpu() for x in inputs))
        wanted = wanted if isinstance(wanted, tuple | list) else (wanted,)
        made = runner(*(x.cpu().numpy() for x in inputs))
        made = made if isinstance(made, tuple) else (made,)
        for name, a, b in zip(worst, wanted, made, strict=True):
            a = a.numpy()
            if a.shape != b.shape:
                raise NiwakiError(
                    f"the output '{name}' has the shape {b.shape} in {runner.engine}, {a.shape} in torch"
                )
            scale = max(1.0, float(np.abs(a).max(initial=0.0)))
            error = float(np.abs(a.astype(np.float64) - b).max(initial=0.0)) / scale
            worst[name] = max(worst[name], error if np.isfinite(error) else np.inf)
    return worst


def check_graph(
    name: str, graph: Graph, module: nn.Module, path: Path, *, tolerance: float = 1e-4
) -> dict[str, dict[str, float]]:
    """Errors by engine and output. Raises NiwakiError where one exceeds `tolerance`."""
    found = {}
    for engine in available():
        found[engine] = graph_errors(graph, module, open_runner(engine, graph, path))
        for output, error in found[engine].items():
            if error > tolerance:
                raise NiwakiError(
                    f"{engine} computes the output '{output}' of the graph '{name}' with an error of "
                    f"{error:.2g}, more than {tolerance:.2g}; report the operator, or export with check=False"
                )
    return found
