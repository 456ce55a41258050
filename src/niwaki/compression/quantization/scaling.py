"""Channels made alike before they are rounded: exact in float, kept only where rounding then errs less."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from niwaki.compression.quantization.links import Link, find_links, rescale
from niwaki.compression.quantization.ranges import Items, calls
from niwaki.core.contract import GenerativeModel

__all__ = ["Scaled", "equalizing", "input_reach", "output_errors", "scale_where_it_helps", "smoothing"]

_ITEMS = 64  # calibration inputs of each graph that an error is measured on
_GAIN = 0.99  # of the error before: less is chance
_LIMIT = 1e4

Quantize = Callable[[GenerativeModel], GenerativeModel]


@dataclass(frozen=True)
class Scaled:
    """One link whose factors were kept, and the mean squared error before and after, in variances."""

    link: Link
    how: str
    before: float
    after: float

    @property
    def text(self) -> str:
        return f"{self.how} {self.link.text}: squared error × {self.after / self.before:.2f}"


def equalizing(model: GenerativeModel, link: Link) -> Tensor | None:
    """s_j = √(r_j / r'_j) with the ranges of what makes channel j and of what reads it, which become equal:
    max|W_j|/s_j = s_j·max|W'_j| (Nagel et al. 2019, eq. 11). None where the source is a norm."""
    source = model.get_submodule(link.source)
    if not isinstance(source, nn.Linear | _ConvNd):
        return None
    return _ratio(_folded(_output_reach(source), link.width), _readers(model, link), 0.5, 0.5)


def smoothing(model: GenerativeModel, link: Link, reach: Mapping[str, Tensor], alpha: float) -> Tensor | None:
    """s_j = max|X_j|^α / max|W_j|^(1−α) over all readers (Xiao et al. 2023, eq. 4): large values move from
    the activations, which have one scale, into the weights. None where no reader is ever called.

    reach: largest |input| per channel of each reader
    """
    seen = [_folded(reach[name], link.width) for name in link.readers if name in reach]
    if not seen:
        return None
    return _ratio(torch.stack(seen).amax(0), _readers(model, link), alpha, 1.0 - alpha)


def _ratio(above: Tensor, below: Tensor, p: float, q: float) -> Tensor:
    """a^p / b^q, with a geometric mean of 1: one factor for all channels would change nothing. Dead channels
    keep theirs."""
    alive = (above > 0) & (below > 0)
    if not bool(alive.any()):
        return torch.ones_like(above)
    logs = torch.where(alive, p * above.clamp_min(1e-30).log() - q * below.clamp_min(1e-30).log(), 0.0)
    logs = torch.where(alive, logs - logs[alive].mean(), 0.0)
    return logs.exp().clamp(1.0 / _LIMIT, _LIMIT)


def _readers(model: GenerativeModel, link: Link) -> Tensor:
    every = [_folded(_weight_reach(model.get_submodule(n)), link.width) for n in link.readers]
    return torch.stack(every).amax(0)


def _folded(reach: Tensor, width: int) -> Tensor:
    return reach.reshape(width, -1).amax(1)


def _output_reach(layer: nn.Module) -> Tensor:
    """Largest |weight| of each output."""
    w = layer.get_parameter("weight").detach().abs()
    if isinstance(layer, _ConvNd) and layer.transposed:
        return w.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1).flatten(1).amax(1)
    return w.flatten(1).amax(1)


def _weight_reach(layer: nn.Module) -> Tensor:
    """Largest |weight| that multiplies each input."""
    w = layer.get_parameter("weight").detach().abs()
    if isinstance(layer, _ConvNd) and not layer.transposed:
        return w.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1).flatten(1).amax(1)
    return w.flatten(1).amax(1) if isinstance(layer, _ConvNd) else w.amax(0)


@torch.no_grad()
def input_reach(model: GenerativeModel, items: Items, names: Sequence[str]) -> dict[str, Tensor]:
    """Largest |input| per channel of the layers `names`, on the calibration items."""
    found: dict[str, Tensor] = {}

    def hook(name: str) -> Any:
        def see(module: nn.Module, inputs: Any, named: Any) -> None:
            x = inputs[0] if inputs else named["input"]
            axis = 1 if isinstance(module, _ConvNd) else -1
            most = x.detach().abs().movedim(axis, 0).flatten(1).amax(1)
            found[name] = torch.maximum(found[name], most) if name in found else most

        return see

    handles = [model.get_submodule(n).register_forward_pre_hook(hook(n), with_kwargs=True) for n in names]
    try:
        for graph, inputs in _inputs(model, items, len):
            graph(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _inputs(model: GenerativeModel, items: Items, most: Callable[[Any], int]) -> Any:
    for name, graph in model.shipped_graphs().items():
        every = items.get(name, ())
        for inputs in calls(graph, every[:: max(1, len(every) // max(1, most(every)))]):
            yield graph, inputs


@torch.no_grad()
def output_errors(model: GenerativeModel, whole: GenerativeModel, items: Items) -> float:
    """Mean squared difference of what the graphs of both models make of some calibration items, each output
    in its variance."""
    total, count = 0.0, 0
    pairs = zip(_inputs(model, items, _some), _inputs(whole, items, _some), strict=True)
    for (graph, inputs), (other, same) in pairs:
        made, wanted = graph(*inputs), other(*same)
        both = zip(_several(made), _several(wanted), strict=True)
        for a, b in [(a.float(), b.float()) for a, b in both if b.is_floating_point() and b.numel() > 1]:
            total += float((a - b).square().mean() / b.var().clamp_min(1e-12)) * len(b)
            count += len(b)
    return total / max(count, 1)


def _some(items: Any) -> int:
    return min(len(items), _ITEMS)


def _several(out: Any) -> Sequence[Tensor]:
    return out if isinstance(out, tuple | list) else (out,)


def scale_where_it_helps(
    model: GenerativeModel, items: Items, quantize: Quantize, *, equalize: bool, smooth: float
) -> tuple[Scaled, ...]:
    """Rescale the links of `model`, one after the other, in place; those whose factors lower the error of
    the quantized model by at least 1 % stay so, the others are as they were.

    quantize: gives the quantized copy of a model, to try
    equalize: with factors from the weights' ranges
    smooth:   α of factors from the inputs' ranges; 0 is without
    """
    whole = copy.deepcopy(model)
    best = output_errors(quantize(model), whole, items)
    kept = []
    for link in find_links(model):
        ways: list[tuple[str, Tensor | None]] = []
        if equalize:
            ways.append(("equalized", equalizing(model, link)))
        if smooth:
            reach = input_reach(model, items, link.readers)
            ways.append(("smoothed", smoothing(model, link, reach, smooth)))
        tried = []
        before = {name: p.detach().clone() for name, p in _parameters(model, link).items()}
        for how, factors in ways:
            if factors is not None:
                rescale(model, link, factors)
                tried.append((output_errors(quantize(model), whole, items), how, factors))
                _restore(model, link, before)
        error, how, factors = min(tried, key=lambda t: t[0], default=(best, "", torch.ones(())))
        if error < _GAIN * best:
            rescale(model, link, factors)
            kept.append(Scaled(link, how, best, error))
            best = error
    return tuple(kept)


def _parameters(model: GenerativeModel, link: Link) -> dict[str, nn.Parameter]:
    return {
        f"{name}.{leaf}": p
        for name in (link.source, *link.readers)
        for leaf, p in model.get_submodule(name).named_parameters(recurse=False)
    }


@torch.no_grad()
def _restore(model: GenerativeModel, link: Link, before: Mapping[str, Tensor]) -> None:
    for name, p in _parameters(model, link).items():
        p.copy_(before[name])
