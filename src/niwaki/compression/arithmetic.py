"""What sampling computes: parameters and multiply-accumulates, of the whole model and layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from niwaki.core.contract import GenerativeModel
from niwaki.surgery.quantized import Quantizer

__all__ = ["LayerCost", "layer_costs", "macs", "parameters", "passes", "sampling_graphs", "watch_pass"]


@dataclass(frozen=True)
class LayerCost:
    """What one layer with weights does in one pass of the sampling graphs, for one sample.

    kind:    name of the module's class
    macs:    multiply-accumulates
    weights: of its matrix or kernel, without the bias
    rest:    further parameters
    outputs: values that it writes
    calls:   how often it is called
    """

    kind: str
    macs: int
    weights: int
    rest: int
    outputs: int
    calls: int = 1


def sampling_graphs(model: GenerativeModel) -> dict[str, Any]:
    """The graphs that the sampler calls: what is exported, and so what counts."""
    used = model.sampler().graphs_used()
    return {name: graph for name, graph in model.shipped_graphs().items() if name in used}


def parameters(model: GenerativeModel) -> int:
    """Parameters that one forward of every sampling graph uses, each counted once."""
    used: dict[int, int] = {}
    watch_pass(
        model,
        lambda module, seen, out: used.update(
            (id(p), p.numel())
            for p in module.parameters(recurse=False)
            if not isinstance(module, Quantizer)  # scales belong to how weights are stored
        ),
    )
    return sum(used.values())


def macs(model: GenerativeModel) -> int:
    """Multiply-accumulates of convolutions and linear layers for one sample, over all network evaluations."""
    total = 0

    def count(module: nn.Module, seen: Any, out: Any) -> None:
        nonlocal total
        total += _macs_of(module, seen, out)

    watch_pass(model, count)
    return total * passes(model)


def passes(model: GenerativeModel) -> int:
    """How often the sampler calls the network for one sample; 1 where it calls several networks in turn."""
    return int(model.sampler().evaluations()) if len(sampling_graphs(model)) == 1 else 1


def layer_costs(model: GenerativeModel) -> dict[str, LayerCost]:
    """By name, in order of their first call, every layer that has a `weight` of at least two dimensions."""
    names = {module: name for name, module in model.named_modules()}
    found: dict[str, LayerCost] = {}

    def see(module: nn.Module, seen: Any, out: Any) -> None:
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.dim() < 2 or not isinstance(out, Tensor):
            return
        rest = sum(p.numel() for p in module.parameters()) - weight.numel()
        name, before = names[module], found.get(names[module])
        found[name] = LayerCost(
            type(module).__name__,
            _macs_of(module, seen, out) + (before.macs if before else 0),
            weight.numel(),
            rest,
            out.numel() + (before.outputs if before else 0),
            1 + (before.calls if before else 0),
        )

    watch_pass(model, see)
    return found


def _macs_of(module: nn.Module, seen: Any, out: Any) -> int:
    if isinstance(module, _ConvNd):
        # Every output position meets every kernel position; transposed, every input position does.
        positions = seen[:, 0].numel() if module.transposed else out[:, 0].numel()
        pairs = module.in_channels * module.out_channels // module.groups
        return int(positions * pairs * math.prod(module.kernel_size))
    if isinstance(module, nn.Linear):
        return int(out.numel() * module.in_features)
    return 0


@torch.no_grad()
def watch_pass(model: GenerativeModel, see: Any) -> None:
    """`see(module, first input, output)` for every module that runs in one pass of the sampling graphs."""

    def hook(module: nn.Module, inputs: Any, out: Any) -> None:
        see(module, inputs[0] if inputs else None, out)

    handles = [m.register_forward_hook(hook) for m in model.modules()]
    was_training = model.training
    model.eval()
    try:
        for graph in sampling_graphs(model).values():
            graph(*graph.example(1))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
