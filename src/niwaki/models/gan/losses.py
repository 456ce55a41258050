"""Adversarial losses, as pure functions of critics' logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["discriminator_loss", "generator_loss", "least_squares", "r1_penalty"]


def discriminator_loss(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """−log σ(D(x)) and −log(1 − σ(D(G(z)))), means over the batch (Goodfellow et al. 2014, Equation 1)."""
    return {"real": F.softplus(-real).mean(), "fake": F.softplus(fake).mean()}


def generator_loss(fake: Tensor) -> Tensor:
    """−log σ(D(G(z))): non-saturating (Goodfellow et al. 2014, Section 3)."""
    return F.softplus(-fake).mean()


def least_squares(values: Tensor, target: float) -> Tensor:
    """E (D(x) − target)²: 1 for real samples and for those that should pass as such, 0 for made ones (Mao et
    al. 2017, Equation 9)."""
    return (values - target).square().mean()


def r1_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """E ‖∇ₓ D(x)‖² over real samples (Mescheder, Geiger & Nowozin 2018, Equation 9, without its γ/2).

    logits: `(n,)`, computed from `x`; the norm is taken per sample, over all its values
    x:      `(n, *shape)` with `requires_grad`
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()
