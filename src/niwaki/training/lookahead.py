"""Lookahead (Zhang, Lucas, Hinton & Ba 2019, "Lookahead optimizer: k steps forward, 1 step back"): around any
optimizer, weights that follow its own slowly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

__all__ = ["Lookahead"]


class Lookahead(Optimizer):
    """After every k steps of the inner optimizer: φ ← φ + α(θ − φ), θ ← φ.

    inner: makes the steps; its groups and its state are this one's, so that a rate that is set here is its
           own. Its moments are kept where θ goes back, as in the paper
    k:     steps forward
    alpha: α, the share of the way that is kept
    """

    def __init__(self, inner: Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        self.inner, self.k, self.alpha = inner, k, alpha
        super().__init__([{"params": list(g["params"])} for g in inner.param_groups], {})
        self.param_groups, self.state, self.defaults = inner.param_groups, inner.state, inner.defaults

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        # Inner optimizers take an empty state for that of a first step, so nothing is put there before it.
        begun = {p: p.clone() for p in parameters if "slow" not in self.state.get(p, {})}
        loss: Any = self.inner.step(closure)
        for p in parameters:
            state = self.state[p]
            if p in begun:
                state["slow"], state["since"] = begun[p], torch.zeros((), dtype=torch.int64)
            state["since"] += 1
            if int(state["since"]) % self.k == 0:
                p.copy_(state["slow"].lerp_(p, self.alpha))
        return loss
