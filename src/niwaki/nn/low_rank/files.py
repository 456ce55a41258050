"""Adapters as files: written as peft names them, and merged into a network that they fit."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError, nearest
from niwaki.core.lora_files import Pair, read_pairs
from niwaki.core.store import write_tensors
from niwaki.nn.low_rank.attaching import adapted, output_axis
from niwaki.nn.low_rank.base import low_rank_change
from niwaki.nn.low_rank.dora import decomposed

__all__ = ["changed_by", "merge_adapter", "write_adapter"]


def write_adapter(model: nn.Module, file: Path) -> None:
    """The adapters of a network alone, without its weights: `LAYER.lora_A.weight` `(r, in, …)`,
    `LAYER.lora_B.weight` `(out, r, …)`, `LAYER.alpha`, and the magnitudes of DoRA."""
    tensors: dict[str, Tensor] = {}
    for name, layer, adapter in adapted(model):
        for key, value in layer._parameters.items():
            if value is None or not key.startswith("lora_"):
                continue
            kernel = value.ndim == 2 and key == "lora_B"  # of convolutions B is one of 1 × 1
            shape = (*value.shape, *[1] * (layer._parameters["weight"].ndim - 2)) if kernel else value.shape  # type: ignore[union-attr]
            tensors[f"{name}.{key}.weight"] = value.detach().reshape(shape)
        tensors[f"{name}.alpha"] = torch.tensor(adapter.scale * adapter.rank)
    write_tensors(file, tensors)


def changed_by(weight: Tensor, pair: Pair, scale: float, origin: Path, axis: int = 0) -> Tensor:
    """The weight of a layer with an adapter of a file merged: W + s·(α/r)·B·A, or DoRA's.

    scale:  s
    axis:   of the weight along which its outputs lie
    Raises CallError where the matrices are for a weight of another shape.
    """
    down, up = pair.down.float(), pair.up.float()
    turned = weight.float().movedim(axis, 0)
    # Of convolutions A has the kernel and B is 1 × 1; linear layers may be written so, too.
    fits = up.flatten(1).shape[1] == down.shape[0]
    change = low_rank_change(down, up.flatten(1)) if fits else None
    if change is not None and change.numel() == turned.numel():
        change = change.reshape(turned.shape)
    size = None if pair.magnitude is None else pair.magnitude.numel()
    if change is None or change.shape != turned.shape or size not in (None, turned.shape[0]):
        raise CallError(
            f"{origin} holds '{pair.key}' of A {tuple(down.shape)} and B {tuple(up.shape)} for a weight "
            f"{tuple(weight.shape)}: it was made for another model"
        )
    changed = turned + scale * pair.factor * change.to(weight.device)
    if pair.magnitude is not None:
        changed = decomposed(changed, pair.magnitude.float().flatten().to(weight.device))
    return changed.movedim(0, axis).to(weight.dtype)


@torch.no_grad()
def merge_adapter(model: nn.Module, file: Path, scale: float = 1.0) -> tuple[str, ...]:
    """Merge the adapters of a file (or of the one in a folder) into the layers of their names; returns these.

    Raises CallError for a file that holds something else, and for an adapter that fits no layer.
    """
    pairs = read_pairs(file)
    layers = {
        n: m
        for n, m in model.named_modules()
        if getattr(m.__dict__["_parameters"].get("weight"), "ndim", 0) > 1
    }
    for pair in pairs:
        if pair.module not in layers:
            raise CallError(
                f"{file} holds '{pair.key}', which fits no layer of the model; {nearest(pair.module, layers)}"
            )
    for pair in pairs:
        layer = layers[pair.module]
        weight: Tensor = layer._parameters["weight"]  # type: ignore[assignment]
        weight.copy_(changed_by(weight, pair, scale, file, output_axis(layer)))
    return tuple(pair.module for pair in pairs)
