"""Which norms follow directly on which layers: seen in a forward pass, believed after a trial."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from niwaki.compression.forward import outputs
from niwaki.core.contract import GenerativeModel
from niwaki.surgery.quantized_fold import absorb, unfit

__all__ = ["fold_norms"]

_TOLERANCE = 1e-3

Pair = tuple[str, str]


def fold_norms(model: GenerativeModel) -> tuple[Pair, ...]:
    """Put every batch norm that directly follows a layer, reshaped or not, into that layer; in place, exact.

    Each pair (layer, norm) is first tried on a copy whose norms have statistics that leave nothing as it is:
    where the layer's output is used elsewhere, too, the outputs of the graphs change, and the pair is left
    alone. Returns the pairs.
    """
    found = _neighbours(model)
    if not found:
        return ()
    good = found if _exact(model, found) else tuple(pair for pair in found if _exact(model, (pair,)))
    for layer, norm in good:
        absorb(model, layer, norm)
    return good


@torch.no_grad()
def _neighbours(model: GenerativeModel) -> tuple[Pair, ...]:
    """(layer, norm) where in every call the norm was given what the layer had just made, untouched."""
    names = {m: n for n, m in model.named_modules()}
    made: dict[int, tuple[nn.Module, Tensor, int]] = {}
    befores: dict[nn.Module, list[nn.Module | None]] = defaultdict(list)
    calls: dict[nn.Module, int] = defaultdict(int)

    def after(module: nn.Module, inputs: Any, out: Tensor) -> None:
        calls[module] += 1
        made[out.data_ptr()] = module, out, out._version

    def before(norm: nn.Module, inputs: Any) -> None:
        (x,) = inputs
        layer, out, version = made.get(x.data_ptr(), (None, x, x._version))
        same = (
            x.numel() == out.numel() and x._version == version and x.is_contiguous() and out.is_contiguous()
        )
        befores[norm].append(layer if same and _aligned(layer, out, x) else None)

    handles = [m.register_forward_hook(after) for m in names if isinstance(m, _ConvNd | nn.Linear)]
    handles += [m.register_forward_pre_hook(before) for m in names if isinstance(m, _BatchNorm)]
    try:
        outputs(model.eval())
    finally:
        for handle in handles:
            handle.remove()
    pairs = []
    for norm, layers in befores.items():
        layer = layers[0]
        if layer is None or any(one is not layer for one in layers) or calls[layer] != len(layers):
            continue
        if not unfit(layer, norm) and sum(layer in other for other in befores.values()) == 1:
            pairs.append((names[layer], names[norm]))
    return tuple(pairs)


def _aligned(layer: nn.Module | None, out: Tensor, x: Tensor) -> bool:
    """Whether the norm's channels are the layer's outputs, in runs of equal length."""
    if isinstance(layer, _ConvNd):
        return x.shape == out.shape
    return out.ndim == 2 and x.shape[0] == out.shape[0]


@torch.no_grad()
def _exact(model: GenerativeModel, pairs: Iterable[Pair]) -> bool:
    trial = copy.deepcopy(model).eval()
    rng = torch.Generator().manual_seed(0)
    for _, name in pairs:
        norm = trial.get_submodule(name)
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.add_(0.5 * torch.randn(norm.running_mean.shape, generator=rng))
        norm.running_var.mul_(0.5 + torch.rand(norm.running_var.shape, generator=rng))
    wanted = outputs(trial)
    for layer, name in pairs:
        absorb(trial, layer, name)
    made = outputs(trial)
    return all(_close(a, b) for a, b in zip(wanted, made, strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return bool((a == b).all())
    return float((a - b).abs().max()) <= _TOLERANCE * max(float(a.abs().max()), 1e-6)
