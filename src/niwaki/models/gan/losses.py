"""Adversarial losses, as pure functions of critics' logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "adaptive_weight",
    "discriminator_loss",
    "feature_matching",
    "generator_loss",
    "gradient_penalty",
    "least_squares",
    "mode_seeking",
    "r1_penalty",
]


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
    """E ‖∇ₓ D(x)‖² over real samples (Mescheder, Geiger & Nowozin 2018, Equation 9, without its γ/2); over
    made ones it is R2.

    logits: `(n,)`, computed from `x`; the norm is taken per sample, over all its values
    x:      `(n, *shape)` with `requires_grad`
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def gradient_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """E (‖∇ₓ D(x)‖ − 1)² (Gulrajani et al. 2017, Equation 3, without its λ).

    logits: `(n,)`, computed from `x`; the norm is taken per sample, over all its values
    x:      `(n, *shape)` with `requires_grad`, between real and made samples
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    # At a gradient of 0 the norm has no slope; this far from it, it is the norm.
    norm = (gradient.square().flatten(1).sum(1) + 1e-12).sqrt()
    return (norm - 1).square().mean()


def feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    """‖E φ(x) − E φ(G(z))‖², φ `(n, k)` of the discriminator (Salimans et al. 2016, Section 3.1)."""
    return (real.mean(0) - fake.mean(0)).square().sum()


def mode_seeking(one: Tensor, two: Tensor, z_one: Tensor, z_two: Tensor) -> Tensor:
    """How little samples `(n, *shape)` of the same condition differ for how much their latents `(n, k)` do:
    1 / (d(G(z₁), G(z₂)) / d(z₁, z₂)), d the mean absolute difference (Mao et al. 2019, Equation 3)."""
    apart = (one - two).abs().mean() / (z_one - z_two).abs().mean()
    return 1.0 / (apart + 1e-5)


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: Tensor, most: float = 1e4) -> Tensor:
    """‖∇ reconstruction‖ / (‖∇ adversarial‖ + 1e-6), at most `most`: by it the adversarial term moves the
    last layer as much as the reconstruction does (Esser, Rombach & Ommer 2021, "Taming transformers",
    Equation 7). A scalar without gradient.

    reconstruction, adversarial: scalars
    last:                        weights of the last layer that both depend on
    """
    found = (
        torch.autograd.grad(term, last, retain_graph=True)[0].float().norm()
        for term in (reconstruction, adversarial)
    )
    one, other = found
    return (one / (other + 1e-6)).clamp(max=most).detach()
