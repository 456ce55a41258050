"""Which samples a training draws, and in which order."""

from __future__ import annotations

from typing import Any

from niwaki.core.contract import Trainable
from niwaki.data import Feeder, Split
from niwaki.training.balanced import BalancedFeeder
from niwaki.training.config import TrainConfig
from niwaki.training.curriculum import CurriculumFeeder, samples_in

__all__ = ["build_feeder"]


def build_feeder(model: Trainable, split: Split, config: TrainConfig, size: int, **options: Any) -> Feeder:
    """The feeder that the settings of a training ask for.

    size:    samples per batch and process
    options: of `Feeder`: `seed`, `rank`, `world`, `offset`
    """
    if config.balance is not None:
        return BalancedFeeder(split, size, config.balance, **options)
    if config.curriculum is not None:
        stages = [(stage.name, stage.steps, config.of_stage(stage).batch) for stage in config.all_stages]
        return CurriculumFeeder(split, size, config.curriculum, samples_in(model, stages), **options)
    return Feeder(split, size, **options)
