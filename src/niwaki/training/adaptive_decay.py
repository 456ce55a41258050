"""Adaptive weight decay (Ghiasi, Shafahi & Ardekani 2023, "Improving robustness with adaptive weight decay",
arXiv:2210.00094): the decay keeps in step with the gradient, around any optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from niwaki.training.optimizers import Groups, optimizer
from niwaki.training.wrapping import WrapperConfig

__all__ = ["AdaptiveDecay", "AdaptiveDecayConfig"]

KEPT = 0.1
"""Share of the decay before that is kept (Algorithm 1)."""


class AdaptiveDecay(Optimizer):
    """g ← g + λ̄ w before a step of the inner optimizer, with (Algorithm 1)

        λ_t = λ ‖g‖ / ‖w‖,   λ̄ ← 0.1 λ̄ + 0.9 λ_t,   λ̄ = 0 before the first step,

    norms over all weights that are decayed. At λ̄ = λ_t the decay is λ times as long as the gradient,
    whatever the scale of the loss and of the weights.

    inner: its groups and its state are this one's; what their `weight_decay` says is λ, and none is left to
           it
    """

    def __init__(self, inner: Optimizer) -> None:
        self.inner = inner
        super().__init__([{"params": list(g["params"])} for g in inner.param_groups], {})
        self.param_groups, self.state, self.defaults = inner.param_groups, inner.state, inner.defaults
        decayed = [group for group in self.param_groups if group["weight_decay"]]
        self.decayed = [p for group in decayed for p in group["params"]]
        self.strength = max((float(group["weight_decay"]) for group in decayed), default=0.0)
        for group in self.param_groups:
            group["weight_decay"] = 0.0

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        weights = [p for p in self.decayed if p.grad is not None]
        new: Tensor | None = None
        if weights:
            gradients, size = [p.grad for p in weights], get_total_norm(weights)
            now = self.strength * get_total_norm(gradients).div(size).where(size > 0, 0.0)
            states = [self.state.get(p, {}) for p in self.decayed]
            before = next((state["decay"] for state in states if "decay" in state), 0.0)
            new = KEPT * before + (1.0 - KEPT) * now
            torch._foreach_add_(gradients, torch._foreach_mul(weights, new))
        self.inner.step()
        if new is not None:
            # Inner optimizers take an empty state for that of a first step, so it is kept after it; once.
            for p in self.decayed:
                self.state.get(p, {}).pop("decay", None)
            self.state[weights[0]]["decay"] = new
        return loss


@optimizer("adaptive_decay")
class AdaptiveDecayConfig(WrapperConfig):
    """`weight_decay` is λ: how long the decay is beside the gradient. The authors use 0.016 … 0.022 with
    SGD of images."""

    around: ClassVar[str] = "adaptive_decay"

    inner: str | dict[str, Any] = "sgd"

    def build(self, groups: Groups) -> Optimizer:
        return AdaptiveDecay(self.inside().build(groups))
