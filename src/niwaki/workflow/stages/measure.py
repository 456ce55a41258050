"""Figures before and after, by `benchmarks/PROTOCOL.md`: interleaved in one process, memory in fresh ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from niwaki.core.contract import NiwakiError
from niwaki.data.inputs import make_inputs
from niwaki.deployment import Measurement, bundle_bytes, machine, measure_steadily
from niwaki.deployment.baselines import compiled_bf16, eager_float32
from niwaki.deployment.measure import bundle_way
from niwaki.deployment.memory import bundle_memory, model_memory
from niwaki.deployment.timing import SPREAD
from niwaki.deployment.weights import weight_bytes
from niwaki.workflow.engine_choice import engine_of
from niwaki.workflow.reporter import counter
from niwaki.workflow.run_context import RunContext
from niwaki_runtime.programs import SAMPLING

__all__ = ["measure_all"]


def measure_all(context: RunContext) -> dict[str, Any]:
    """`before` (torch eager float32), `compiled` (torch.compile bf16, where asked), `float32` (the
    uncompressed bundle) and `after` (the run's bundle): each a `Measurement` as JSON."""
    run, config, model = context.run, context.recipe.export, context.model
    engine = engine_of(config, run.bundle)
    options: dict[str, Any] = {"engine": engine, "precision": config.precision}
    test = context.dataset.test

    def inputs(n: int) -> Any:
        return make_inputs(model, SAMPLING, n, test)

    in_torch: dict[str, Callable[[int], Any]] = {"before": eager_float32(model, inputs=inputs)}
    if config.torch_compile:
        in_torch["compiled"] = compiled_bf16(model, inputs=inputs)

    def ways(threads: int) -> dict[str, Callable[[int], Any]]:
        bundles = {"float32": run.original_bundle, "after": run.bundle}
        return in_torch | {
            name: bundle_way(path, inputs=inputs, threads=threads, **options)
            for name, path in bundles.items()
        }

    def again(threads: int, fewer: int) -> None:
        context.reporter.note(
            f"on {threads} threads the times of half of the runs differ by more than a factor of {SPREAD:g}; "
            f"all are measured again on {fewer}"
        )

    latency, threads = measure_steadily(
        ways, threads=config.threads, batches=config.batches, rounds=config.repeats,
        progress=counter(context.reporter), again=again,
    )  # fmt: skip
    memory: dict[str, int | None] = {}
    if config.memory:
        memory = _memory(context, threads, options)
    evaluations, here, small = model.sampler().evaluations(), machine(), weight_bytes(model)

    def torch_way(name: str, what: str, precision: str) -> Measurement:
        return Measurement(
            what, "torch", precision, threads, latency[name], small, memory.get(name), evaluations, here
        )

    def bundle(name: str, path: Path) -> Measurement:
        size, used = bundle_bytes(path), memory.get(name)
        return Measurement(
            "bundle", engine, config.precision, threads, latency[name], size, used, evaluations, here
        )

    found = {
        "before": torch_way("before", "torch eager float32", "float32"),
        "float32": bundle("float32", run.original_bundle),
        "after": bundle("after", run.bundle),
    }
    if config.torch_compile:
        found["compiled"] = torch_way("compiled", "torch.compile bf16", "bf16")
    return {name: measurement.to_json() for name, measurement in found.items()}


def _memory(context: RunContext, threads: int, options: dict[str, Any]) -> dict[str, int | None]:
    """Peak memory of each way in fresh processes, at the largest batch."""
    run, n = context.run, max(context.recipe.export.batches)
    ways: dict[str, Callable[[], int]] = {
        "before": lambda: model_memory(run.model, threads=threads, n=n, bundle=run.original_bundle),
        "float32": lambda: bundle_memory(run.original_bundle, n=n, threads=threads, **options),
        "after": lambda: bundle_memory(run.bundle, n=n, threads=threads, **options),
    }
    context.reporter.stage("memory", f"batch {n}, in fresh processes")
    found: dict[str, int | None] = {}
    for k, (name, way) in enumerate(ways.items()):
        context.reporter.update(k, len(ways))
        try:
            found[name] = way()
        except NiwakiError as error:  # a model that only this process can make
            context.reporter.note(f"peak memory of '{name}' was not measured: {error}")
            found[name] = None
    return found
