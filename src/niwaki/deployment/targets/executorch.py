"""executorch for phones: a program for each graph, what the app needs to call them, and how they were
checked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

import niwaki_runtime
from niwaki.core.contract import CallError, NiwakiError, nearest
from niwaki.core.store import atomic_directory, write_bytes, write_json
from niwaki.deployment.executorch.module import GraphModule
from niwaki.deployment.executorch.moves import round_beside_products
from niwaki.deployment.executorch.operators import OPERATORS
from niwaki.deployment.executorch.program import Lowered, PteGraph, installed, lower
from niwaki.deployment.static_graph.agreement import agrees, difference, tolerance_of
from niwaki.deployment.static_graph.network import Network
from niwaki.deployment.static_graph.reading import read_network
from niwaki.deployment.targets.target import Target, register_target
from niwaki_runtime import Bundle
from niwaki_runtime.bundle import open_files
from niwaki_runtime.manifest import Manifest
from niwaki_runtime.specs import resolve

__all__ = ["ExecutorchTarget"]

_TIMED = 20


@register_target("executorch")
class ExecutorchTarget(Target):
    """`out` is a directory: NAME.pte for each graph that the program calls, and export.json.

    program: of the bundle
    n, seed: the results that are compared with the bundle's
    """

    suffix = "-executorch"
    options: ClassVar[Mapping[str, Any]] = {"program": "sample", "n": 32, "seed": 0}

    def write(self, bundle: Path, out: Path, **options: Any) -> dict[str, Any]:
        """`out`, `bytes`, `graphs` (of each its bytes, and which operators are delegated), `check`.

        Raises CallError for a program that the bundle does not have, NiwakiError as `Target.write` says and
        where executorch is not installed.
        """
        if not installed():
            raise NiwakiError("this target needs executorch; pip install 'niwaki[executorch]'")
        program, n, seed = options["program"], options["n"], options["seed"]
        if n < 1:
            raise CallError(f"at least one result must be compared, not {n}")

        def written(directory: Path, manifest: Manifest) -> dict[str, Any]:
            if program not in manifest.programs:
                raise CallError(f"{bundle} has no program '{program}'; {nearest(program, manifest.programs)}")
            graphs, runners, step = {}, {}, 0.0
            for name in sorted(set(manifest.programs[program].sampler.graphs_used())):
                made, runners[name], record = _lowered(directory, manifest, name)
                graphs[name] = (made, record)
                step = max(step, record.pop("quantizer_step"))
            check = _check(bundle, manifest, program, runners, n, seed, step)
            record = {
                "target": self.name,
                "model": manifest.name,
                "program": program,
                "sampler": manifest.programs[program].sampler.to_json(),
                "graphs": {name: one for name, (_, one) in graphs.items()},
                "bytes": sum(len(made.data) for made, _ in graphs.values()),
                "check": check,
                "verdict": dict(manifest.verdict),
            }
            with atomic_directory(out) as place:
                for name, (made, _) in graphs.items():
                    write_bytes(place / f"{name}.pte", made.data)
                write_json(place / "export.json", record)
            return {"out": out, **record}

        found: dict[str, Any] = open_files(bundle, written)
        return found

    def lines(self, written: Mapping[str, Any]) -> list[str]:
        check, found = written["check"], [f"{written['out']}  {written['bytes']} bytes"]
        for name, graph in written["graphs"].items():
            done, left = (sum(graph[side].values()) for side in ("delegated", "portable"))
            rest = f"; by portable kernels {', '.join(graph['portable'])}" if left else ""
            few, of = graph["weights_on_integers"]
            integers = f", {few} of {of} layers on integers" if of else ""
            found.append(f"{name}: {done} of {done + left} operators by XNNPACK{integers}{rest}")
        return [
            *found,
            f"{check['n']} samples as the bundle's to {check['max']:.2g}, "
            f"{check['milliseconds']:.3g} ms for one here",
        ]


def _lowered(directory: Path, manifest: Manifest, name: str) -> tuple[Lowered, PteGraph, dict[str, Any]]:
    entry = manifest.graphs[name]
    network = read_network(
        directory / entry.file, name, list(entry.input_names), list(entry.output_names),
        known=OPERATORS, form="executorch",
    )  # fmt: skip
    round_beside_products(network)
    kinds = [np.dtype(network.arrays[i].dtype) for i in network.inputs]
    example = [
        torch.from_numpy(np.zeros(network.arrays[i].shape, kind))
        for i, kind in zip(network.inputs, kinds, strict=True)
    ]
    made, floats = _lowered_on_integers(network, example, name)
    step = max((float(q.scale.max()) for q in network.quantized.values()), default=0.0)
    rounded = [s for s in network.steps if s.op == "QuantizeLinear"]
    step = max([float(network.constants[s.inputs[1]].max()) for s in rounded], default=step)
    record = {
        "file": f"{name}.pte",
        "bytes": len(made.data),
        "inputs": {i: [str(k), *network.arrays[i].shape] for i, k in zip(network.inputs, kinds, strict=True)},
        "outputs": {o: list(network.arrays[o].shape) for o in network.outputs},
        "weights_on_integers": [len(network.quantized) - len(floats), len(network.quantized)],
        "delegated": made.delegated,
        "portable": made.portable,
        "quantizer_step": step,
    }
    return made, PteGraph(made.data, kinds, entry.state), record


def _lowered_on_integers(
    network: Network, example: list[torch.Tensor], name: str
) -> tuple[Lowered, set[str]]:
    """The program, and the weights on integers that it holds as floats: where no kernel multiplies with them,
    and all of them where a mixture is more than executorch can take."""
    floats: set[str] = set()
    while True:
        module = GraphModule(network, floats).eval()
        try:
            made = lower(module, example, name)
        except NiwakiError:
            if not floats or floats == set(network.quantized):
                raise
            floats = set(network.quantized)
            continue
        if not made.left:
            return made, floats
        floats |= {known for known, place in module.held.items() if place in made.left}


def _check(
    bundle: Path, manifest: Manifest, program: str, runners: Mapping[str, Any], n: int, seed: int, step: float
) -> dict[str, Any]:
    """Results 0 … n−1 of a seed, each by itself. Raises NiwakiError where they are not the bundle's."""
    reference = niwaki_runtime.load(bundle, engine="auto", precision="exact")
    rows = resolve(manifest.programs[program].inputs, reference.example_inputs(program, n), 0, n)
    wanted = reference.run(program, n, seed=seed, inputs=rows, batch=1)
    here = Bundle(bundle, manifest, dict(runners), "executorch")
    made = here.run(program, n, seed=seed, inputs=rows, batch=1)
    errors, tolerance = difference(wanted, made), tolerance_of(step)
    if not agrees(errors, step):
        raise NiwakiError(
            f"executorch's samples differ from the bundle's by {errors['max']:.2g} (mean "
            f"{errors['mean']:.2g}), more than {tolerance:.2g}; nothing was written"
        )
    first, took = {name: values[:1] for name, values in rows.items()}, []
    for _ in range(_TIMED):
        began = time.perf_counter()
        here.run(program, 1, seed=seed, inputs=first, batch=1)
        took.append(time.perf_counter() - began)
    return {
        "engine": reference.engine, "n": n, "seed": seed, **errors, "tolerance": tolerance, "passed": True,
        "milliseconds": 1e3 * float(np.median(took)),
    }  # fmt: skip
