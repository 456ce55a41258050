"""The first steps of a training, their losses written down."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import Batch, Context, Trainable
from niwaki.training.changed import everywhere, undecided, with_lengths
from niwaki.training.checks.base import Subject
from niwaki.training.config import TrainConfig
from niwaki.training.fit import fit
from niwaki.training.step import Batches

__all__ = ["measured_phases", "train_few"]


class _Enough(Exception):
    """Ends the training whose first steps are looked at."""


def measured_phases(subject: Subject) -> tuple[str, ...]:
    """Phases of the first stage whose loss measures the model; none of a game between two networks."""
    return _measured(subject.make(), subject.config)


def _measured(model: Trainable, config: TrainConfig) -> tuple[str, ...]:
    stage = config.all_stages[0].name
    return tuple(p.name for p in model.phases() if p.validate and p.in_stage(stage))


def train_few(subject: Subject, steps: int, *, batches: Batches | None = None, **changes: Any) -> list[float]:
    """The loss in each of the first `steps` steps of the first stage, the sum over the `measured_phases`;
    fewer where one is not finite, the last then, and none where nothing is measured.

    batches: other batches than those of the split
    changes: of `TrainConfig`, in every stage
    """
    model: Any = subject.make()
    named = _measured(model, subject.config)
    plain, found = model.loss, list[float]()
    held: dict[str, Tensor] = {}
    done = 0

    def close() -> None:
        """A step is over."""
        if held:
            found.append(float(sum(float(value) for value in held.values())))
            held.clear()
        subject.progress(done, steps)
        if done >= steps or (found and not math.isfinite(found[-1])):
            raise _Enough

    def loss(phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        nonlocal done
        if ctx.step > done:
            done = ctx.step
            close()
        terms: dict[str, Tensor] = plain(phase, batch, ctx)
        if phase in named:
            held[phase] = ctx.total(terms).detach()
        return terms

    model.loss = loss
    try:
        with torch.random.fork_rng():
            fit(
                model,
                subject.split,
                _short(subject.config, steps, changes),
                seed=subject.seed,
                batches=batches,
            )
        close()
    except _Enough:
        pass
    finally:
        vars(model).pop("loss", None)
    return found[:steps]


def _short(config: TrainConfig, steps: int, changes: dict[str, Any]) -> TrainConfig:
    """With so many steps in the first stage, and nothing beside the steps."""
    beside: dict[str, Any] = {
        "checkpoint_every": 0, "validation_batches": 0,
        "watch": None, "ema": 0.0, "devices": 1, "compile": False,
    }  # fmt: skip
    return with_lengths(everywhere(undecided(config), **beside, **changes), lambda k, _: 1 if k else steps)
