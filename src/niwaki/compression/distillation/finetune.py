"""The step that trains on: the one trainer, on a student and its teacher."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from niwaki.compression.config import FinetuneConfig
from niwaki.compression.distillation.distilled import Distilled
from niwaki.contract import GenerativeModel
from niwaki.training import TrainConfig, fit

__all__ = ["finetune"]


def finetune(
    student: GenerativeModel,
    teacher: GenerativeModel,
    split: Any,
    config: FinetuneConfig,
    *,
    seed: int,
    directory: Path | None = None,
    progress: Callable[[int, int, Mapping[str, float]], None] | None = None,
) -> GenerativeModel:
    """A copy of `student`, trained to say what `teacher` says (`niwaki.compression.distillation.distilled`).

    split:     the training split, a `niwaki.data.Split`
    directory: of checkpoints; a training that was interrupted there is resumed
    """
    both = Distilled(copy.deepcopy(student), copy.deepcopy(teacher), config)
    shared = ("steps", "batch", "betas", "warmup", "clip", "ema", "precision", "device")
    settings = TrainConfig.model_validate(
        {
            **{name: getattr(config, name) for name in shared},
            "batch": min(config.batch, len(split)),
            "lr": both.rates(),
            "checkpoint_every": max(config.steps // 4, 50) if directory else 0,
            "log_every": max(1, min(50, config.steps // 10)),
        }
    )
    fit(
        both, split, settings, seed=seed, directory=directory, resume=directory is not None, progress=progress
    )
    return both.student.cpu().eval()
