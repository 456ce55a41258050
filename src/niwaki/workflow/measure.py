"""Figures before and after, by `benchmarks/PROTOCOL.md`: interleaved in one process, memory in fresh ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from safetensors.torch import save
from torch import Tensor

from niwaki.contract import GenerativeModel
from niwaki.deployment import Measurement, bundle_bytes, machine, measure_together
from niwaki.deployment.baselines import compiled_bf16, eager_float32, torch_threads
from niwaki.deployment.measure import bundle_way
from niwaki.deployment.memory import bundle_memory, model_memory
from niwaki.workflow.reporter import counter
from niwaki.workflow.session import Session

__all__ = ["measure_all", "weight_bytes"]


def measure_all(session: Session) -> dict[str, Any]:
    """`before` (torch eager float32), `compiled` (torch.compile bf16, where asked), `float32` (the uncompressed bundle)
    and `after` (the run's bundle): each a `Measurement` as JSON."""
    run, config, model = session.run, session.recipe.export, session.model
    engine, threads = config.engine, config.threads
    options: dict[str, Any] = {"engine": engine, "precision": config.precision, "threads": threads}
    ways: dict[str, Callable[[int], Any]] = {
        "before": eager_float32(model),
        "float32": bundle_way(run.original_bundle, **options),
        "after": bundle_way(run.bundle, **options),
    }
    if config.torch_compile:
        ways["compiled"] = compiled_bf16(model)
    with torch_threads(threads):
        latency = measure_together(
            ways, batches=config.batches, rounds=config.repeats, progress=counter(session.reporter)
        )
    largest, evaluations, here = max(config.batches), model.sampler().evaluations(), machine()
    small = weight_bytes(model)

    def bundle(name: str, path: Any) -> Measurement:
        memory = bundle_memory(path, n=largest, **options)
        return Measurement(
            "bundle", engine, config.precision, threads, latency[name], bundle_bytes(path), memory, evaluations, here
        )

    found = {
        "before": Measurement(
            "torch eager float32", "torch", "float32", threads, latency["before"], small,
            model_memory(run.model, threads=threads, n=largest), evaluations, here,
        ),
        "float32": bundle("float32", run.original_bundle),
        "after": bundle("after", run.bundle),
    }  # fmt: skip
    if config.torch_compile:
        found["compiled"] = Measurement(
            "torch.compile bf16", "torch", "bf16", threads, latency["compiled"], small, None, evaluations, here
        )
    return {name: measurement.to_json() for name, measurement in found.items()}


def weight_bytes(model: GenerativeModel) -> int:
    """Size of a safetensors file that holds what sampling needs, in float32, each weight once."""
    graphs, kept = model.graphs(), {}
    seen: set[int] = set()
    for name in model.sampler().graphs_used():
        for key, tensor in graphs[name].module.state_dict().items():
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                kept[f"{name}.{key}"] = _float32(tensor)
    return len(save(kept))


def _float32(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.float() if tensor.is_floating_point() else tensor
