"""The low-rank adapters of a stage: which layers get them, and when they become part of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from niwaki.core.contract import Trainable
from niwaki.nn.low_rank import (
    adaptable,
    adapted,
    adapter_class,
    attach,
    is_adapter,
    merge,
    strip,
    write_adapter,
)
from niwaki.training.adapter_config import AdapterConfig, named
from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.schedule import seed_of
from niwaki.training.stages import under
from niwaki_runtime.errors import CallError, nearest

__all__ = ["adapt", "settle"]


def adapt(model: Trainable, config: TrainConfig, stage: StageConfig, seed: int) -> None:
    """Put the adapters of a stage on the model, in place of others that it may have.

    Raises CallError where a pattern names no layer that the stage trains.
    """
    strip(model)
    settings = config.of_stage(stage)
    adapters = settings.adapters
    if adapters is None:
        return
    layers = _layers(model, settings, stage, adapters)
    scale, kind = adapters.alpha / adapters.rank, adapter_class(adapters.name)
    rng = torch.Generator().manual_seed(seed_of(seed, "adapters", stage.name))
    attach(layers.values(), lambda axis: kind(adapters.rank, scale, axis), rng)


def _layers(
    model: Trainable, settings: TrainConfig, stage: StageConfig, adapters: AdapterConfig
) -> dict[str, nn.Module]:
    phases = [p for p in model.phases() if p.in_stage(stage.name)]
    open_ = tuple(n for p in phases for n in p.parameters)
    known = {
        name: layer
        for name, layer in adaptable(model).items()
        if under(f"{name}.weight", open_) and not under(f"{name}.weight", settings.freeze)
    }
    if not known:
        raise CallError(
            f"train.adapters has nothing to adapt in the stage '{stage.name}': it trains no linear layer or "
            "convolution with a weight of its own"
        )
    for pattern in adapters.on:
        if not any(named(name, (pattern,)) for name in known):
            raise CallError(
                f"train.adapters.on names '{pattern}', which fits no layer with a weight of its own that the "
                f"stage '{stage.name}' trains; {nearest(pattern, known)}"
            )
    parameters = [n for n, _ in model.named_parameters() if under(n, open_)]
    for pattern in adapters.also:
        if not any(named(name, (pattern,)) for name in parameters):
            raise CallError(
                f"train.adapters.also names '{pattern}', which fits nothing that the stage '{stage.name}' "
                f"trains; {nearest(pattern, parameters)}"
            )
    return {name: layer for name, layer in known.items() if not adapters.on or named(name, adapters.on)}


def settle(model: nn.Module, ema: Any, file: Path | None) -> None:
    """Make the adapters part of the weights: their averages, where there are any, as they are used in the
    end.

    file: gets them before
    """
    if ema is not None:
        ema.assign(n for n in ema.values if is_adapter(n))
    if file is not None and any(adapted(model)):
        file.parent.mkdir(exist_ok=True)
        write_adapter(model, file)
    merged = merge(model)
    if ema is not None:
        ema.track(model)
        ema.restart(merged)
