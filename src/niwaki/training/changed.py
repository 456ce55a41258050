"""The settings of a training changed as a whole: in all of its stages, and in their lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.schedules import build_schedule, followed

__all__ = ["everywhere", "undecided", "with_lengths"]


def everywhere(config: TrainConfig, **changes: Any) -> TrainConfig:
    """With settings that hold in every stage, whatever a stage says of its own."""
    stages = tuple(
        StageConfig.model_validate({k: v for k, v in stage.model_dump().items() if k not in changes})
        for stage in config.stages
    )
    return config.model_copy(update={**changes, "stages": stages})


def undecided(config: TrainConfig) -> TrainConfig:
    """With nothing that validations decide: no early stopping, the last weights, and a constant rate where it
    would follow them."""

    def steady(given: TrainConfig | StageConfig) -> dict[str, str]:
        asked = getattr(given, "schedule", None)
        return {"schedule": "constant"} if asked is not None and followed(build_schedule(asked)) else {}

    stages = tuple(stage.model_copy(update=steady(stage)) for stage in config.stages)
    plain = config.model_copy(update={**steady(config), "stages": stages})
    return everywhere(plain, early_stopping=None, keep_best=False)


def with_lengths(config: TrainConfig, length: Callable[[int, int], int]) -> TrainConfig:
    """With other numbers of steps.

    length: (place of a stage, its steps) → its steps now
    """
    stages = tuple(s.model_copy(update={"steps": length(k, s.steps)}) for k, s in enumerate(config.stages))
    return config.model_copy(update={"steps": length(0, config.steps), "stages": stages})
