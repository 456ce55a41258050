"""Training on: the one trainer, on a student and its teachers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from niwaki.compression.distillation.config import FinetuneConfig
from niwaki.compression.distillation.distilled import Distilled
from niwaki.compression.distillation.dropout import without_dropout
from niwaki.core.contract import GenerativeModel, Trainable
from niwaki.models.io import load_model
from niwaki.surgery.sparse import held
from niwaki.training import TrainConfig, fit

__all__ = ["Taught", "finetune", "train_on"]

Progress = Callable[[int, int, Mapping[str, float]], None]


class Taught(Protocol):
    """A student in training: what is trained, and how fast each of its optimizers learns."""

    student: GenerativeModel

    def rates(self) -> dict[str, float]: ...


def finetune(
    student: GenerativeModel,
    teacher: GenerativeModel,
    split: Any,
    config: FinetuneConfig,
    *,
    seed: int,
    directory: Path | None = None,
    progress: Progress | None = None,
) -> GenerativeModel:
    """A copy of `student`, trained to say what `teacher` says (`niwaki.compression.distillation.distilled`).

    split:     the training split, a `niwaki.data.Split`
    config:    `config.teachers` are loaded and asked beside `teacher`
    directory: of checkpoints; a training that was interrupted there is resumed
    """
    teachers = [copy.deepcopy(teacher), *(load_model(Path(path)) for path in config.teachers)]
    both = Distilled(copy.deepcopy(student), teachers, config)
    return train_on(both, split, config, seed=seed, directory=directory, progress=progress)


def train_on(
    both: Taught,
    split: Any,
    config: FinetuneConfig,
    *,
    seed: int,
    steps: int | None = None,
    directory: Path | None = None,
    progress: Progress | None = None,
) -> GenerativeModel:
    """Train `both` (a `Trainable`) as `config` says, for `steps` instead of its own where given; returns the
    student on the CPU, with averaged weights, in eval mode."""
    assert isinstance(both, Trainable)
    steps = steps or config.steps
    parts = config.train.devices * config.train.accumulate
    settings = TrainConfig.model_validate(
        {
            **config.train.model_dump(),
            "steps": steps,
            "batch": min(config.batch, len(split)) // parts * parts,
            "lr": both.rates(),
            "checkpoint_every": max(steps // 4, 50) if directory else 0,
            "log_every": max(1, min(50, steps // 10)),
        }
    )
    resume = directory is not None
    # What was pruned weight by weight stays zero.
    with held(both.student), without_dropout(both.student):
        fit(both, split, settings, seed=seed, directory=directory, resume=resume, progress=progress)
    return both.student.cpu().eval()
