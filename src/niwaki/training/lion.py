"""Lion, "evolved sign momentum": Chen et al. 2023, Symbolic Discovery of Optimization Algorithms,
arXiv:2302.06675, Algorithm 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

__all__ = ["Lion"]


class Lion(Optimizer):
    """u = sign(β₁m + (1 − β₁)g),  p ← (1 − lr·λ)p − lr·u,  m ← β₂m + (1 − β₂)g.

    params: parameters or groups; each group may have its own lr, betas and weight_decay λ
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = [p.grad for p in parameters]
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta = [self.state[p]["momentum"] for p in parameters]
            mixed, decayed = group["betas"]
            signs = torch._foreach_lerp(gradients, momenta, mixed)
            torch._foreach_sign_(signs)
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1.0 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, signs, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, gradients, 1.0 - decayed)
        return loss
