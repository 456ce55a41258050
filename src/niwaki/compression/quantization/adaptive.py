"""Rounding that looks at what a layer is given: each weight's error is taken back by those still to come.

The nearest level of every weight is not the nearest layer: where inputs go together, errors can cancel
(Nagel et al., "Up or down?", 2020). Solved here column by column in closed form (Frantar et al., "GPTQ",
2023), layer by layer, each with the inputs that the rounded layers before it make.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from niwaki.compression.quantization.design import from_rows, input_rows, weight_rows
from niwaki.compression.quantization.ranges import Items, calls
from niwaki.core.contract import GenerativeModel
from niwaki.surgery.quantized import QuantizedLayer, Quantizer, quantized_layers
from niwaki.surgery.sparse import masks

__all__ = ["Adapted", "adapt_layers", "as_batches", "damped", "moments", "round_columns"]

_SAMPLES = 512
_VALUES = 1 << 27  # of the float model's inputs of layers, kept at a time: half a gigabyte
_DAMP = 0.01  # of the mean diagonal, as in the paper: where inputs never go, nothing is moved
_FEW = 0.1  # more of it where places are few beside the columns, and chance makes directions
_BLOCK = 64


@dataclass(frozen=True)
class Adapted:
    """E‖Wx − Ŵx̂‖² on the calibration inputs, rounded to nearest and as it is now, over E‖Wx‖²."""

    nearest: float
    now: float


@torch.no_grad()
def adapt_layers(model: GenerativeModel, whole: GenerativeModel, items: Items) -> dict[str, Adapted]:
    """Choose the levels of the weights of the quantized `model` for its own inputs x̂, so that outputs are
    those of the float model `whole` on x; in place, by layer. Weights become levels of their grids.

    Linear layers and convolutions with integer weights that run once per call of one graph, in the order of
    the calls; others keep the nearest levels, as does every output that would not gain. What was pruned
    weight by weight stays zero.
    items: calibration inputs of each graph, of which up to 512 are used
    """
    layers = {n: m for n, m in quantized_layers(model).items() if _fits(m)}
    one = sum(x.numel() for x in _given(whole, as_batches(whole, items, 1), layers).values())
    graphs = as_batches(model, items, max(1, min(_SAMPLES, _VALUES // max(one, 1))))
    given = _given(whole, graphs, layers)
    kept = {name.rpartition(".")[0]: mask for name, mask in masks(model).items()}
    found: dict[str, Adapted] = {}

    def hook(name: str) -> Any:
        def adapt(layer: QuantizedLayer, inputs: Any, named: Any) -> None:
            x = inputs[0] if inputs else named["input"]
            if name in given and given[name].shape == x.shape:
                rounded = x if layer.input_quantizer is None else layer.input_quantizer(x)
                found[name] = _adapt(layer, given.pop(name), rounded, kept.get(name))

        return adapt

    handles = [m.register_forward_pre_hook(hook(n), with_kwargs=True) for n, m in layers.items()]
    try:
        for name, inputs in graphs.items():
            model.shipped_graphs()[name](*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def as_batches(model: GenerativeModel, items: Items, samples: int) -> dict[str, tuple[Tensor, ...]]:
    """The first inputs of each graph as one batch; graphs whose inputs do not make one are left out."""
    found = {}
    for name, graph in model.shipped_graphs().items():
        every = list(calls(graph, items.get(name, ())[:samples], samples))
        if len(every) == 1:
            found[name] = every[0]
    return found


def _fits(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | _ConvNd) and isinstance(layer.weight_quantizer, Quantizer)


def _given(
    whole: GenerativeModel, graphs: Mapping[str, tuple[Tensor, ...]], layers: Mapping[str, Any]
) -> dict[str, Tensor]:
    """What the layers that are called once are given in the float model."""
    given: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()

    def hook(name: str) -> Any:
        def see(layer: nn.Module, inputs: Any, named: Any) -> None:
            counts[name] += 1
            given[name] = inputs[0] if inputs else named["input"]

        return see

    handles = [whole.get_submodule(n).register_forward_pre_hook(hook(n), with_kwargs=True) for n in layers]
    try:
        for name, inputs in graphs.items():
            whole.shipped_graphs()[name](*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: x for name, x in given.items() if counts[name] == 1}


def _adapt(layer: QuantizedLayer, x: Tensor, rounded: Tensor, kept: Tensor | None) -> Adapted:
    quantizer, weight = layer.weight_quantizer, layer._parameters["weight"]
    assert isinstance(quantizer, Quantizer)
    assert weight is not None

    def rows(value: Tensor) -> Tensor:
        return weight_rows(layer, value.to(weight)).double()

    def spread(scales: Tensor) -> Tensor:
        """One per weight."""
        like = quantizer.rows(weight)
        return rows(quantizer.from_rows(scales.reshape(-1, 1).expand_as(like).contiguous(), weight))

    hessian, cross, power, places = moments(layer, x, rounded)
    damp = _DAMP + _FEW * hessian.shape[-1] / max(places, 1)
    wanted, scale, zero = rows(weight), spread(quantizer.scale), spread(quantizer.zero)
    held = None if kept is None else rows(kept) != 0
    # The rounded inputs x̂ differ from x: W' = W + W E[(x − x̂)x̂ᵀ] H⁻¹ makes of them what W makes of x.
    best = wanted + torch.linalg.solve(damped(hessian, damp), cross @ wanted.mT).mT
    grid = (scale, zero, quantizer.low, quantizer.high)
    nearest, made = _levels(wanted, *grid), round_columns(best, hessian, *grid, held, damp)
    target = (hessian + cross) @ wanted.mT
    errors = [_error(q, hessian, target) for q in (nearest, made)]
    better = errors[1] < errors[0]
    weight.copy_(from_rows(layer, torch.where(better[..., None], made, nearest), weight))
    total = ((wanted @ power) * wanted).sum()
    sums = errors[0].sum(), errors[1].minimum(errors[0]).sum()
    return Adapted(*[float((e + total) / total.clamp_min(1e-30)) for e in sums])


def moments(layer: nn.Module, x: Tensor, rounded: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """E[x̂x̂ᵀ], E[x̂(x − x̂)ᵀ] and E[xxᵀ], each (groups, columns, columns) in float64, and over how many
    places."""
    sums: list[Tensor] = []
    count = 0
    for a, b in input_rows(layer, x, rounded):
        parts = [(b.mT @ b).double(), (b.mT @ (a - b)).double(), (a.mT @ a).double()]
        sums = [s.add_(p) for s, p in zip(sums, parts, strict=True)] if sums else parts
        count += a.shape[1]
    hessian, cross, power = (s / max(count, 1) for s in sums)
    return hessian, cross, power, count


def _error(rows: Tensor, hessian: Tensor, target: Tensor) -> Tensor:
    """E(w·x − q·x̂)² − E(w·x)² = qᵀHq − 2qᵀE[x̂xᵀ]w of each row q, (groups, rows)."""
    return ((rows @ hessian) * rows).sum(-1) - 2.0 * (rows * target.mT).sum(-1)


def _levels(w: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    return ((torch.round(w / scale) + zero).clamp(low, high) - zero) * scale


def damped(hessian: Tensor, damp: float) -> Tensor:
    """With a share of the mean diagonal added, and 1 where an input is always zero."""
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    more = damp * diagonal.mean(-1, keepdim=True) + (diagonal <= 0)
    return hessian + torch.diag_embed(more)


def round_columns(
    weights: Tensor,
    hessian: Tensor,
    scale: Tensor,
    zero: Tensor,
    low: int,
    high: int,
    held: Tensor | None = None,
    damp: float = _DAMP,
) -> Tensor:
    """Levels near `weights` (groups, outputs, n) whose error under H (groups, n, n) is small: column after
    column is rounded, and w_k ← w_k − (w_j − q_j)·U_jk/U_jj takes its error back, H⁻¹ = UᵀU (GPTQ,
    algorithm 1). Columns of much power come first, while there are many to make up for them.

    held: False where a weight is to be zero
    """
    order = hessian.diagonal(dim1=-2, dim2=-1).argsort(-1, descending=True)
    along = order[:, None, :].expand_as(weights)
    w, scale, zero = (t.expand_as(weights).gather(-1, along).clone() for t in (weights, scale, zero))
    free = None if held is None else held.gather(-1, along)
    full = damped(hessian, damp)
    full = full.gather(-2, order[..., None].expand_as(full))
    full = full.gather(-1, order[:, None].expand_as(full))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(full))
    upper = torch.linalg.cholesky(inverse, upper=True)
    made, n = torch.empty_like(w), w.shape[-1]
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        errors = torch.empty_like(w[..., start:stop])
        for j in range(start, stop):
            q = _levels(w[..., j], scale[..., j], zero[..., j], low, high)
            q = q if free is None else q * free[..., j]
            made[..., j] = q
            error = (w[..., j] - q) / upper[:, j, j, None]
            w[..., j:stop] -= error[..., None] * upper[:, j, None, j:stop]
            errors[..., j - start] = error
        w[..., stop:] -= errors @ upper[:, start:stop, stop:]
    return torch.empty_like(made).scatter_(-1, along, made)
