"""What a plan will not make faster, said before it begins: every operator that leaves the engine's fast path.

The trial is made with the model as it is. Pruning that comes before makes layers narrower; which of them an
engine computes on integers it does not change.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from niwaki.compression.config import PruneConfig, QuantizeConfig
from niwaki.compression.quantization.convert import chosen_layers
from niwaki.compression.quantization.norms import fold_norms
from niwaki.compression.quantization.ranges import observe
from niwaki.compression.step_config import Step
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.store import hash_json, read_json, write_json
from niwaki.deployment.fast_path import OffPath, off_fast_path
from niwaki.surgery.quantized import LayerBits, is_quantizable, quantized_layers
from niwaki_runtime.engines import available

__all__ = ["forewarned", "forewarned_once"]


def forewarned(
    model: GenerativeModel, steps: Sequence[Step], *, engine: str = "openvino"
) -> tuple[OffPath, ...]:
    """What of the plan `steps` the engine will compute more slowly than the step suggests.

    Nothing is tried where no step is about it, nor where the engine is not installed. A trial that fails is a
    warning itself: the step may fail for the same reason.
    """
    found: list[OffPath] = []
    for step in steps:
        if isinstance(step, PruneConfig) and step.what == "weights":
            pattern = f"zeros in the pattern {step.pattern}" if step.pattern else "zeros"
            reason = f"no engine here computes faster with {pattern}: they save storage, with 'pack'"
            found.append(OffPath("", "prune", "weights", reason))
        if isinstance(step, QuantizeConfig) and engine in available():
            try:
                found += _quantized(model, step, engine)
            except (NiwakiError, RuntimeError, ValueError) as error:  # a courtesy must not cost the plan
                found.append(OffPath("", "quantize", "trial", f"it could not be tried: {error}"))
    return tuple(found)


def forewarned_once(
    model: GenerativeModel, steps: Sequence[Step], engine: str, path: Path, key: str
) -> tuple[OffPath, ...]:
    """The same, from `path` where it was found for this `key` (of the model), plan and engine before."""
    key = hash_json([key, *steps, engine])
    if path.exists() and (kept := read_json(path)).get("key") == key:
        return tuple(OffPath.from_json(record) for record in kept["warnings"])
    found = forewarned(model, steps, engine=engine)
    write_json(path, {"key": key, "warnings": [one.to_json() for one in found]})
    return found


def _quantized(model: GenerativeModel, step: QuantizeConfig, engine: str) -> list[OffPath]:
    if quantized_layers(model):
        return []  # the step says so itself
    made = copy.deepcopy(model).cpu().eval()
    asked, closed = _asked(made, step)
    return [*off_fast_path(made, asked, engine=engine), *closed]


def _asked(model: GenerativeModel, step: QuantizeConfig) -> tuple[dict[str, LayerBits], list[OffPath]]:
    """The layers that the step will quantize, norms folded as it will fold them; and those that it cannot
    open."""
    fold_norms(model)
    examples = {
        name: [
            dict(zip(graph.input_names, (x.cpu().numpy() for x in graph.example(1, seed)), strict=True))
            for seed in range(4)
        ]
        for name, graph in model.shipped_graphs().items()
        if name in model.sampler().graphs_used()
    }
    layers, skipped = chosen_layers(model, step, observe(model, examples, is_quantizable))
    closed = [
        OffPath(
            "", type(m).__name__, name, "its weights cannot be taken out of it: it stays in float",
            tuple(next(m.parameters()).shape),
        )
        for name, m in model.named_modules()
        if name in skipped and isinstance(m, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention)
    ]  # fmt: skip
    return layers, closed
