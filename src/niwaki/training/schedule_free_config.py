"""Settings of the schedule-free optimizers."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch.optim import Optimizer

from niwaki.training.optimizers import Beta, Betas, Groups, OptimizerConfig, optimizer
from niwaki.training.schedule_free import ScheduleFree, ScheduleFreeAdamW

__all__ = ["ScheduleFreeAdamWConfig", "ScheduleFreeSgdConfig"]


@optimizer("schedule_free_adamw")
class ScheduleFreeAdamWConfig(OptimizerConfig):
    """`niwaki.training.schedule_free`. Its authors use a rate 1 to 10 times that of AdamW, and a warm-up.

    betas: share of the average in where gradients are taken; decay of the second moment
    eps:   added to the root of the second moment
    """

    averages: ClassVar[bool] = True
    betas: Betas = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)

    def build(self, groups: Groups) -> Optimizer:
        return ScheduleFreeAdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps)


@optimizer("schedule_free_sgd")
class ScheduleFreeSgdConfig(OptimizerConfig):
    """`niwaki.training.schedule_free`. Its authors use a rate 10 to 50 times that of SGD with momentum.

    beta: share of the average in where gradients are taken
    """

    averages: ClassVar[bool] = True
    beta: Beta = 0.9

    def build(self, groups: Groups) -> Optimizer:
        return ScheduleFree(groups, lr=self.lr, beta=self.beta)

    @classmethod
    def from_betas(cls, betas: Betas) -> dict[str, Any]:
        return {"beta": betas[0]}
