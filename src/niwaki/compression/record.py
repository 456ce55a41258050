"""What a step did, in figures: sizes, arithmetic, bytes, time, and how far the samples moved."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from niwaki.core.contract import GenerativeModel
from niwaki.surgery.quantized import Quantizer

__all__ = ["Record", "macs", "parameters", "sampling_graphs"]


@dataclass(frozen=True)
class Record:
    """One step of a plan, measured on what was reloaded from disk.

    kind, settings:  the step and its config
    parameters:      of the graphs that sampling calls, before and after the step
    macs:            multiply-accumulates of one sample (all network evaluations), before and after
    bytes:           of the bundle on disk after the step; None where none was made
    latency:         batch size → milliseconds of `sample` on the engine, after the step; empty where not
                     measured
    error:           mean |difference| of samples from those of the uncompressed model at the same noise, in
                     units of the latter's standard deviation
    quantized:       graph → operators computed on integers, and how many there are in all
    seconds:         what the step took
    widths:          coupling → channels before and after (pruning)
    skipped:         coupling → why it kept its width (pruning)
    notes:           anything else worth knowing
    idle:            the step found nothing to do
    sparsity:        layer by layer, weights, zeros and patterns after the step (pruning), as
                     `niwaki.compression.pruning.sparsity_table.LayerSparsity.to_json` gives it
    """

    kind: str
    settings: dict[str, Any]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    bytes: int | None
    latency: dict[str, float]
    error: float
    quantized: dict[str, dict[str, int]]
    seconds: float
    widths: dict[str, tuple[int, int]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    idle: bool = False
    sparsity: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Record:
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in record.items() if k in known}
        for name in ("parameters", "macs", "notes"):
            values[name] = tuple(values[name])
        values["sparsity"] = tuple(values.get("sparsity", ()))
        values["widths"] = {k: tuple(v) for k, v in values["widths"].items()}
        return cls(**values)


def sampling_graphs(model: GenerativeModel) -> dict[str, Any]:
    """The graphs that the sampler calls: what is exported, and so what counts."""
    used = model.sampler().graphs_used()
    return {name: graph for name, graph in model.shipped_graphs().items() if name in used}


def parameters(model: GenerativeModel) -> int:
    """Parameters that one forward of every sampling graph uses, each counted once."""
    used: dict[int, int] = {}
    _watch(
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

    def count(module: nn.Module, seen: Tensor, out: Tensor) -> None:
        nonlocal total
        if isinstance(module, _ConvNd):
            # Every output position meets every kernel position; transposed, every input position does.
            positions = seen[:, 0].numel() if module.transposed else out[:, 0].numel()
            pairs = module.in_channels * module.out_channels // module.groups
            total += positions * pairs * math.prod(module.kernel_size)
        elif isinstance(module, nn.Linear):
            total += out.numel() * module.in_features

    _watch(model, count)
    evaluations = model.sampler().evaluations() if len(sampling_graphs(model)) == 1 else 1
    return total * evaluations


@torch.no_grad()
def _watch(model: GenerativeModel, see: Any) -> None:
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
