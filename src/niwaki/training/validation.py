"""How good a model is on held-out data, and what follows from it: when to stop, which weights to keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import Batch, CallError, Context, Trainable
from niwaki.data import Feeder, Split
from niwaki.training.config import TrainConfig
from niwaki.training.hardware import seed_generators
from niwaki.training.loss_config import EarlyStopping
from niwaki.training.schedule import seed_of
from niwaki.training.stages import Stage

__all__ = ["LOSS", "History", "check_measured", "held_out_loss"]

LOSS = "loss"
"""Name of the one number that early stopping and the choice of the best weights go by."""


@dataclass
class History:
    """What the validations of a stage have shown so far.

    best, step: the lowest loss and when it was; infinite and 0 before the first validation
    reference:  what the next loss must undercut by `min_delta` to count as progress
    waited:     validations without progress since
    first, last, count: the first loss, the last one, and how many there were
    """

    best: float = math.inf
    step: int = 0
    reference: float = math.inf
    waited: int = 0
    first: float = math.inf
    last: float = math.inf
    count: int = 0

    def add(self, loss: float, step: int, min_delta: float = 0.0) -> bool:
        """Returns whether it is the lowest loss so far. A loss that is not a number is no progress."""
        if loss < self.reference - min_delta:
            self.reference, self.waited = loss, 0
        else:
            self.waited += 1
        known = loss if math.isfinite(loss) else math.inf
        self.first, self.last = (self.first if self.count else known), known
        self.count += 1
        lowest = loss < self.best
        if lowest:
            self.best, self.step = loss, step
        return lowest

    def exhausted(self, rule: EarlyStopping | None) -> bool:
        return rule is not None and self.waited >= rule.patience

    def to_json(self) -> dict[str, Any]:
        return {k: v if math.isfinite(v) else None for k, v in vars(self).items()}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> History:
        values: dict[str, Any] = {k: math.inf if v is None else v for k, v in record.items()}
        return cls(**values)


def check_measured(measured: Mapping[str, Any], settings: TrainConfig, stage: str) -> None:
    """Raises CallError where a rule of the stage asks for a held-out loss and there is none."""
    if (settings.early_stopping or settings.keep_best) and LOSS not in measured:
        asked = "early_stopping" if settings.early_stopping else "keep_best"
        raise CallError(
            f"train.{asked} needs a loss on held-out data, and there is none in the stage '{stage}': give a "
            "validation split and a model that defines 'validation_loss', or leave it out"
        )


def held_out_loss(
    model: Trainable,
    split: Split,
    stage: Stage,
    *,
    fabric: Any,
    seed: int,
    step: int,
    place: Callable[[Batch], Batch],
) -> dict[str, float]:
    """The model's `validation_loss`, the user's losses included, over always the same batches with always the
    same random numbers: their sum as `loss`, and each by name where there are several. {} where nothing
    measures the model.

    At most `validation_batches` batches of the stage's size, no sample twice; processes share them. Buffers
    that a loss writes to are put back.
    """
    settings, world = stage.settings, fabric.world_size
    size = min(settings.batch, len(split))
    count = min(settings.validation_batches, len(split) // size)
    feeder = Feeder(split, size, seed=seed_of("validation"))
    buffers = {b: b.detach().clone() for b in model.buffers()}
    rng = torch.Generator(fabric.device)
    sums: dict[str, Tensor] = {}
    mine = range(fabric.global_rank, count, world)
    for k in mine:
        rng.manual_seed(seed_of(seed, "validation", k))
        seed_generators(seed_of(seed, "validation", "global", k), fabric.device)
        batch = place(feeder.batch(k))
        # Progress 1: the loss as it is when all annealing is done, the same in every validation.
        ctx = Context(step, 1.0, stage.config.name, stage.weights, rng)
        with torch.no_grad(), fabric.autocast():
            for name, value in _losses(model, batch, ctx, stage).items():
                if not isinstance(value, Tensor) or value.dim():
                    raise CallError(f"validation_loss must return scalar tensors, and '{name}' is none")
                sums[name] = sums.get(name, torch.zeros((), device=fabric.device)) + value.detach().float()
    with torch.no_grad():
        for buffer, value in buffers.items():
            buffer.copy_(value)
    means = _means(sums, len(mine), fabric) if count else {}
    return {**(means if len(means) > 1 else {}), LOSS: sum(means.values())} if means else {}


def _losses(model: Trainable, batch: Batch, ctx: Context, stage: Stage) -> dict[str, Tensor]:
    if stage.pretraining is not None:
        return stage.pretraining.loss(model, stage.phases[0].phase.name, batch, ctx)
    losses = dict(model.validation_loss(batch, ctx))
    for phase in losses.keys() & stage.losses.keys():
        for loss in stage.losses[phase]:
            losses[phase] = losses[phase] + loss.weight * ctx.total(loss.terms(model, batch, ctx))
    return losses


def _means(sums: dict[str, Tensor], count: int, fabric: Any) -> dict[str, float]:
    names = sorted(sums)
    totals = torch.stack([*(sums[n] for n in names), torch.tensor(float(count), device=fabric.device)])
    if fabric.world_size > 1:
        totals = fabric.all_reduce(totals, reduce_op="sum")
    *values, number = totals.tolist()
    return {name: value / number for name, value in zip(names, values, strict=True)}
