"""A warning where batch normalization sees few samples at a time."""

from __future__ import annotations

from torch import nn

from niwaki.core.contract import Trainable
from niwaki.training.config import TrainConfig
from niwaki.training.stages import under

__all__ = ["FEWEST", "few_for_batch_norms"]

FEWEST = 16
"""Samples below which the error of batch normalization rises (Wu & He 2018, Figure 1: from 16 images a device
on it is that of 32)."""


def few_for_batch_norms(model: Trainable, config: TrainConfig) -> str:
    """A sentence where a stage trains batch normalization on micro-batches of fewer than 16 samples; empty
    where none does. Statistics are those of one device and one micro-batch: what `devices` and
    `accumulate` divide, no layer sees together."""
    norms = [n for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for stage in config.all_stages:
        settings = config.of_stage(stage)
        size = settings.batch // (config.devices * settings.accumulate)
        phases = [p for p in model.phases() if p.in_stage(stage.name)]
        trained = [
            name
            for name in norms
            if not under(name, settings.freeze) and any(under(name, p.parameters) for p in phases)
        ]
        if trained and size < FEWEST:
            said = f"{trained[0]}{f' and {len(trained) - 1} more' if len(trained) > 1 else ''}"
            return (
                f"{said}: batch normalization sees {size} samples at a time, and below {FEWEST} its "
                "statistics are noisy; a larger batch, fewer micro-batches or devices, or another "
                "normalization is better"
            )
    return ""
