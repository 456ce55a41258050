"""Muon, "momentum orthogonalized by Newton–Schulz": Jordan et al. 2024, https://kellerjordan.github.io/posts/muon;
scaled so that it shares Adam's learning rate: Liu et al. 2025, arXiv:2502.16982, Section 2.2."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from niwaki.training.bf16 import has_bf16

__all__ = ["Muon", "orthogonalize"]

_QUINTIC = (3.4445, -4.7750, 2.0315)
_MATCHED = 0.2  # root mean square of AdamW's update


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """About U Vᵀ of `matrix` = U S Vᵀ, singular values between 0.7 and 1.2: X ← aX + b(XXᵀ)X + c(XXᵀ)²X.

    In bfloat16 where the matrix is on a device that multiplies it fast (a processor without such instructions
    takes six times as long as for float32); the iteration heals its own rounding.
    """
    a, b, c = _QUINTIC
    x = matrix.flatten(1).to(torch.bfloat16 if has_bf16(matrix.device) else torch.float32)
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.mT if tall else x
    return x.to(matrix.dtype).reshape(matrix.shape)


class Muon(Optimizer):
    """Groups with `matrix`: m ← μm + (1 − μ)g,  u = orthogonalize((1 − μ)g + μm)·0.2·√max(rows, columns);
    others: AdamW's u. p ← (1 − lr·λ)p − lr·u for both.

    params: groups, each with `matrix` (a bool) and its own weight_decay λ
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        usual = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, {**usual, "matrix": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._turned if group["matrix"] else self._adapted
            for p in group["params"]:
                if p.grad is None:
                    continue
                if group["weight_decay"]:
                    p.mul_(1.0 - group["lr"] * group["weight_decay"])
                p.add_(update(p, p.grad, group), alpha=-group["lr"])
        return loss

    def _turned(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
        """The update of a matrix (of a convolution: rows are its output channels)."""
        state, mu = self.state[p], group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        momentum = state["momentum"].lerp_(g, 1.0 - mu)
        rows, columns = p.shape[0], p[0].numel()
        return orthogonalize(g.lerp(momentum, mu)) * (_MATCHED * math.sqrt(max(rows, columns)))

    def _adapted(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
        """Adam's update, with its corrections of the young averages."""
        state, (b1, b2) = self.state[p], group["betas"]
        if not state:
            state.update(mean=torch.zeros_like(p), square=torch.zeros_like(p), step=torch.zeros(()))
        state["step"] += 1
        t = float(state["step"])
        mean = state["mean"].lerp_(g, 1.0 - b1)
        square = state["square"].mul_(b2).addcmul_(g, g, value=1.0 - b2)
        return (mean / (1.0 - b1**t)) / ((square / (1.0 - b2**t)).sqrt_() + group["eps"])
