"""The mean error of rounded weights, taken back by the biases."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from niwaki.compression.quantization.ranges import Items, calls
from niwaki.core.contract import GenerativeModel
from niwaki.surgery.quantized import quantized_layers

__all__ = ["correct_biases"]

_SAMPLES = 128


@torch.no_grad()
def correct_biases(model: GenerativeModel, whole: GenerativeModel, items: Items) -> int:
    """b ← b + E[y] − E[ŷ] per output channel, layer by layer in the order of the calls, each after those
    before it were corrected; in place. Returns how many layers were.

    y is what the layer makes in the float model `whole`, ŷ in the quantized `model`, both on the calibration
    items (Nagel et al. 2019, section 4.2, with empirical means). Only layers with a bias that run once per
    call of one graph.
    """
    graphs = {
        name: list(calls(graph, items.get(name, ())[:_SAMPLES], _SAMPLES))
        for name, graph in model.shipped_graphs().items()
    }
    graphs = {name: inputs for name, inputs in graphs.items() if len(inputs) == 1}
    layers = {n: m for n, m in quantized_layers(model).items() if _biased(m)}
    means, counts = _means(whole, graphs, layers)
    done = 0

    def hook(name: str) -> Any:
        def correct(layer: nn.Module, inputs: Any, out: Tensor) -> Tensor | None:
            nonlocal done
            if counts[name] != 1:
                return None
            shift = means[name] - _mean(layer, out)
            bias = layer._parameters["bias"]
            assert bias is not None
            bias.add_(shift)
            done += 1
            shape = [-1 if axis == _channels(layer, out) else 1 for axis in range(out.ndim)]
            return out + shift.reshape(shape)

        return correct

    handles = [m.register_forward_hook(hook(n)) for n, m in layers.items()]
    try:
        for name, inputs in graphs.items():
            model.shipped_graphs()[name](*inputs[0])
    finally:
        for handle in handles:
            handle.remove()
    return done


def _biased(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | _ConvNd) and layer._parameters.get("bias") is not None


def _channels(layer: nn.Module, out: Tensor) -> int:
    return 1 if isinstance(layer, _ConvNd) else out.ndim - 1


def _mean(layer: nn.Module, out: Tensor) -> Tensor:
    return out.movedim(_channels(layer, out), 0).flatten(1).mean(1)


def _means(
    whole: GenerativeModel, graphs: dict[str, list[tuple[Tensor, ...]]], layers: Any
) -> tuple[dict[str, Tensor], dict[str, int]]:
    means: dict[str, Tensor] = {}
    counts: dict[str, int] = defaultdict(int)

    def hook(name: str) -> Any:
        def see(layer: nn.Module, inputs: Any, out: Tensor) -> None:
            counts[name] += 1
            means[name] = _mean(layer, out)

        return see

    handles = [whole.get_submodule(n).register_forward_hook(hook(n)) for n in layers]
    try:
        for name, inputs in graphs.items():
            whole.shipped_graphs()[name](*inputs[0])
    finally:
        for handle in handles:
            handle.remove()
    return means, counts
