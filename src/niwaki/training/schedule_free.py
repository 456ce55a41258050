"""Schedule-free optimizers (Defazio et al. 2024, "The road less scheduled", arXiv:2405.15682): an average
that takes the place of a falling learning rate.

Three sequences, of which the parameters hold y while they are trained (Algorithm 1):

    y_t     = (1 − β)·z_t + β·x_t              where the gradient is taken
    z_{t+1} = z_t − γ_t·u_t − γ_t·λ·y_t        u_t: the gradient, or Adam's direction without first moment
    x_{t+1} = (1 − c)·x_t + c·z_{t+1}          c = γ_t² / Σ_{i ≤ t} γ_i²

x is what is evaluated and kept: it stands in the state as `average`, and `niwaki.training.ema` takes it from
there. It is stored beside z, not computed from y and z, so that no bit depends on when it is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["ScheduleFree", "ScheduleFreeAdamW"]


class ScheduleFree(Optimizer):
    """u = g: stochastic gradient descent; β takes the place of momentum.

    groups: with `weight_decay` λ each
    lr:     γ; the warm-up scales it from outside
    beta:   β
    """

    def __init__(self, groups: Any, lr: float, beta: float = 0.9) -> None:
        self.beta = beta
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None if closure is None else closure()
        for group in self.param_groups:
            rate, decay = float(group["lr"]), float(group["weight_decay"])
            for y in group["params"]:
                if y.grad is None:
                    continue
                state = self.state[y]
                if not state:
                    state["z"], state["average"] = y.clone(), y.clone()
                    # Of float64 and on the CPU: summed as Python's numbers are, without waiting for a device.
                    state["weight_sum"] = torch.zeros((), dtype=torch.float64)
                    state["step"] = torch.zeros((), dtype=torch.int64)
                state["step"] += 1
                state["weight_sum"] += rate**2
                direction = self.direction(y.grad, state)
                z, x = state["z"], state["average"]
                z.sub_(direction, alpha=rate)
                if decay:
                    z.sub_(y, alpha=rate * decay)
                total = float(state["weight_sum"])
                x.lerp_(z, rate**2 / total if total else 0.0)
                y.copy_(torch.lerp(z, x, self.beta))
        return loss

    def direction(self, gradient: Tensor, state: dict[str, Any]) -> Tensor:
        """u_t, after `state["step"]` = t gradients."""
        return gradient


class ScheduleFreeAdamW(ScheduleFree):
    """u = g / (√v̂ + ε), v̂ the second moment without bias.

    betas: β, and the decay of the second moment
    """

    def __init__(
        self, groups: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self.second, self.eps = betas[1], eps
        super().__init__(groups, lr, betas[0])

    def direction(self, gradient: Tensor, state: dict[str, Any]) -> Tensor:
        if "square" not in state:
            state["square"] = torch.zeros_like(gradient)
        square = state["square"].mul_(self.second).addcmul_(gradient, gradient, value=1.0 - self.second)
        unbiased = square / (1.0 - self.second ** int(state["step"]))
        return gradient / unbiased.sqrt_().add_(self.eps)
