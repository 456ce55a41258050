"""Overfit one batch: a training that cannot learn a single batch by heart will not learn the data."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from niwaki.core.contract import Batch
from niwaki.data import Split
from niwaki.training.checks.base import CHECKS, Check, Looked, Subject
from niwaki.training.checks.few_steps import measured_phases, train_few

__all__ = ["Overfit"]

_STEPS, _EDGE = 60, 10


class _OneBatch:
    """The same rows in every step."""

    def __init__(self, split: Split, size: int) -> None:
        self._batch = split.batch(torch.arange(min(size, len(split))))

    def batch(self, k: int) -> Batch:
        return self._batch


@CHECKS.register("overfit")
class Overfit(Check):
    """Sixty steps at the recipe's own rate on its first rows, as many as a batch holds.

    Raises nothing where no loss measures the model: who wins a game does not tell whether it is learned.
    """

    title = "one batch"

    def look(self, subject: Subject) -> Looked:
        if not measured_phases(subject):
            text = "whether one batch can be learned is not asked: no loss of this model measures it alone"
            return Looked.one("note", "one batch", text)
        size = subject.config.of_stage(subject.config.all_stages[0]).batch
        one = _OneBatch(subject.split, size)
        losses = train_few(subject, _STEPS, batches=one, schedule="constant", warmup=0)
        if len(losses) < _STEPS:
            text = f"one batch, again and again: the loss is not finite after {len(losses)} steps"
            return Looked.one("error", "one batch", text, losses=losses)
        first, last = losses[:_EDGE], losses[-_EDGE:]
        before, after = statistics.mean(first), statistics.mean(last)
        noise = (statistics.variance(last) / _EDGE + statistics.variance(losses[:3]) / 3) ** 0.5
        figures: dict[str, Any] = {"before": before, "after": after, "losses": losses}
        said = (
            f"{_STEPS} steps on one batch of {min(size, len(subject.split))}: loss {before:.4g} → {after:.4g}"
        )
        if losses[0] - after <= 2.0 * noise:
            return Looked.one("error", "one batch", f"{said}; it is not learned at this rate", **figures)
        return Looked.one("note", "one batch", said, **figures)
