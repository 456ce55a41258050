"""SOAP (Vyas et al. 2024, arXiv:2409.11321): Adam in the slowly turning eigenbasis of Shampoo's
preconditioner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Soap"]


class Soap(Optimizer):
    """Of a matrix with gradient G: L ← β₂L + (1 − β₂)GGᵀ, R ← β₂R + (1 − β₂)GᵀG, Q_L and Q_R their
    eigenvectors; Adam's update of the turned gradient Q_Lᵀ G Q_R, turned back. All else gets Adam's.

    The first gradient of a matrix only gives L and R: in its own basis it is diagonal, and Adam would make
    steps of the rounding beside the diagonal. A kernel of a convolution is a matrix of its output channels. A
    side of more than `largest` is not turned (Q = 1), and neither is a vector.

    betas:   decay of the first moment; of the second moment and of L and R
    every:   steps between turns of the basis, each by one step of the power method and a QR decomposition
    largest: side of a matrix that is turned
    weight_decay: decoupled, by group
    """

    def __init__(
        self,
        params: Any,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        every: int = 10,
        largest: int = 1024,
    ) -> None:
        usual = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, {**usual, "every": every, "largest": largest})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if group["weight_decay"]:
                    p.mul_(1.0 - group["lr"] * group["weight_decay"])
                if (update := self._update(p, p.grad, group)) is not None:
                    p.add_(update, alpha=-group["lr"])
        return loss

    def _update(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor | None:
        state, (b1, b2) = self.state[p], group["betas"]
        flat = g.flatten(1) if g.dim() > 1 else g
        if not state:
            state.update(mean=torch.zeros_like(p), square=torch.zeros_like(p), step=torch.zeros(()))
            grams = _grams(flat, group["largest"])
            for side, gram in grams.items():
                state[f"{side}_gram"] = gram
                state[f"{side}_basis"] = torch.linalg.eigh(gram)[1].contiguous()  # as it is restored
            if grams:
                return None
        state["step"] += 1
        t = float(state["step"])
        left, right = state.get("left_basis"), state.get("right_basis")
        mean = state["mean"].lerp_(g, 1.0 - b1)
        turned = _turn(flat, left, right).reshape(g.shape)
        square = state["square"].mul_(b2).addcmul_(turned, turned, value=1.0 - b2)
        first = _turn(mean.reshape(flat.shape), left, right) / (1.0 - b1**t)
        adapted = first / ((square.reshape(flat.shape) / (1.0 - b2**t)).sqrt_() + group["eps"])
        update = _turn(adapted, _transposed(left), _transposed(right)).reshape(p.shape)
        for side, gram in _grams(flat, group["largest"]).items():
            state[f"{side}_gram"].lerp_(gram, 1.0 - b2)
            if t % group["every"] == 0:
                turned = state[f"{side}_gram"] @ state[f"{side}_basis"]
                state[f"{side}_basis"] = torch.linalg.qr(turned)[0].contiguous()
        return update


def _grams(g: Tensor, largest: int) -> dict[str, Tensor]:
    """GGᵀ and GᵀG of a matrix, of the sides that are turned."""
    if g.dim() < 2:
        return {}
    rows, columns = g.shape
    left = {"left": g @ g.T} if 1 < rows <= largest else {}
    return left | ({"right": g.T @ g} if 1 < columns <= largest else {})


def _turn(g: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    """Lᵀ g R; None is the identity."""
    g = g if left is None else left.T @ g
    return g if right is None else g @ right


def _transposed(basis: Tensor | None) -> Tensor | None:
    return None if basis is None else basis.T
