"""What a step of a plan changed: parameters, zeros, operators on integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import niwaki_runtime
from niwaki.compression.arithmetic import parameters
from niwaki.compression.config import PruneConfig, StepConfig
from niwaki.compression.pruning.sparsity_table import sparsity
from niwaki.compression.steps import Outcome
from niwaki.core.contract import GenerativeModel
from niwaki.core.errors import NothingToDo
from niwaki.core.store import hash_tensors
from niwaki.deployment import count_quantized

__all__ = ["quantized_of", "refuse_nothing", "sparsity_of"]


def refuse_nothing(step: StepConfig, before: GenerativeModel, after: GenerativeModel) -> None:
    if step.kind in ("quantize", "sampling", "pack"):
        return  # these look for themselves whether integers compute, the sampler is another, bytes are saved
    if isinstance(step, PruneConfig) and step.what == "weights":
        if _zeros(after) <= _zeros(before):
            raise NothingToDo("pruning changed nothing: as many weights are zero as before")
    elif isinstance(step, PruneConfig) and parameters(after) >= parameters(before):
        raise NothingToDo("pruning changed nothing: the model has as many parameters as before")
    if hash_tensors(after.state_dict()) == hash_tensors(before.state_dict()):
        raise NothingToDo(f"the step '{step.kind}' changed nothing: all weights are as before")


def _zeros(model: GenerativeModel) -> int:
    return sum(row.zero for row in sparsity(model))


def sparsity_of(
    step: StepConfig, model: GenerativeModel, original: GenerativeModel
) -> tuple[dict[str, Any], ...]:
    return tuple(row.to_json() for row in sparsity(model, original)) if step.kind == "prune" else ()


def quantized_of(outcome: Outcome) -> dict[str, dict[str, int]]:
    if outcome.bundle:
        graphs = niwaki_runtime.inspect(outcome.bundle).graphs
        return {name: _brief(graph.quantized) for name, graph in graphs.items()}
    return {name: _brief(count_quantized(path)) for name, path in outcome.graphs.items()}


def _brief(counts: Mapping[str, int]) -> dict[str, int]:
    return {k: v for k, v in counts.items() if v or k in ("quantized", "total")}
