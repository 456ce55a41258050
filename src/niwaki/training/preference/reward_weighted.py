"""Reward-weighted regression (Peters & Schaal 2007): any model's own loss, on samples of the model as it was,
which count by exp(r/β)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import Batch, Context, GenerativeModel, Trainable
from niwaki.data import Feeder, Split
from niwaki.data.columns import Column
from niwaki.training.preference.config import PreferConfig
from niwaki.training.preference.objective import Objective, objective
from niwaki_runtime.errors import CallError

__all__ = ["RewardWeighted", "resampled", "weights_of"]

LEAST = 16


def weights_of(worth: Tensor, kinds: Tensor, beta: float) -> Tensor:
    """exp(r/β) `(n,)` float64, of every kind of question as much as it has samples."""
    weights = torch.empty(len(worth), dtype=torch.float64)
    for kind in kinds.unique():
        mine = kinds == kind
        weights[mine] = torch.softmax(worth[mine].double() / beta, 0) * int(mine.sum())
    return weights


def resampled(weights: Tensor, seed: int) -> Tensor:
    """As many positions as there are weights, each as often as its weight says, up to rounding (systematic
    resampling, Kitagawa 1996)."""
    n = len(weights)
    offset = np.random.default_rng(seed).random()
    ends = np.cumsum(weights.numpy() / float(weights.sum()))
    found = np.searchsorted(ends, (np.arange(n) + offset) / n, side="right")
    return torch.from_numpy(np.minimum(found, n - 1))


@objective("reward_weighted")
class RewardWeighted(Objective):
    """Maximizes E over π_ref of exp(r/β) log π, whose maximum is π ∝ π_ref exp(r/β): so it needs nothing but
    the model's own loss, whatever its family.

    Raises CallError where so few samples have most of the weight that they would be learnt by heart.
    """

    def __init__(self, config: PreferConfig, reference: GenerativeModel, split: Split, seed: int) -> None:
        super().__init__(config, reference, split, seed)
        assert self.worth is not None
        x, asked = self.pool()
        weights = weights_of(self.worth(x, asked).cpu(), _kinds(asked, len(x)), config.beta)
        effective = float(weights.sum() ** 2 / weights.square().sum())
        if effective < LEAST:
            raise CallError(
                f"at beta {config.beta:g} only {effective:.0f} of {len(x)} samples count (train.prefer); a "
                "larger beta or more samples"
            )
        at = resampled(weights, seed).to(x.device)
        columns = {"x": x, **asked}
        self.made = Split({name: Column(split.spec[name], value[at]) for name, value in columns.items()})

    def batches(self, size: int, offset: int) -> Feeder:
        return Feeder(self.made, size, seed=self.seed, offset=offset)

    def loss(self, model: Trainable, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return model.loss(phase, batch, ctx)

    def terms(self, model: GenerativeModel, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return model.loss(model.phases()[0].name, batch, ctx)


def _kinds(asked: dict[str, Tensor], n: int) -> Tensor:
    """Numbers of equal questions `(n,)`."""
    if not asked:
        return torch.zeros(n, dtype=torch.int64)
    rows = torch.cat([value.cpu().reshape(n, -1).double() for value in asked.values()], 1)
    return torch.unique(rows, dim=0, return_inverse=True)[1]
