"""How far the latents of a VAE are from their prior, and the parts of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["decomposed_kl", "kl_to_standard", "log_normal", "total_correlation"]


def kl_to_standard(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, e^log_var I) ‖ N(0, I)) in nats `(n, d)`, by latent (Kingma & Welling 2014, Appendix B)."""
    return 0.5 * (mean.square() + log_var.exp() - 1.0 - log_var)


def log_normal(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log N(z; mean, e^log_var), by value."""
    return -0.5 * ((z - mean).square() * torch.exp(-log_var) + log_var + math.log(2.0 * math.pi))


def total_correlation(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(q(z) ‖ Π q(z_d)) in nats, a scalar: how far the latents depend on each other."""
    return decomposed_kl(z, mean, log_var)[1]


def decomposed_kl(z: Tensor, mean: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E[log q(z | x) − log p(z)] in three parts that add up to it (Chen et al. 2018, Equation 2): mutual
    information of z and x, total correlation, divergence of each latent by itself; nats, scalars.

    The aggregate q(z) = 1/n Σ q(z | x_j) is that of the batch. Their weights 1/(nN) for N training samples
    (Equation 3) change each part by a constant alone, and no gradient.

    z, mean, log_var: of the batch `(n, d)`, z drawn from each row's posterior
    """
    n = z.shape[0]
    each = log_normal(z[:, None], mean[None], log_var[None])  # (sample, posterior, latent)
    conditional = log_normal(z, mean, log_var).sum(1)
    aggregate = torch.logsumexp(each.sum(2), 1) - math.log(n)
    product = (torch.logsumexp(each, 1) - math.log(n)).sum(1)
    prior = log_normal(z, torch.zeros_like(z), torch.zeros_like(z)).sum(1)
    parts = conditional - aggregate, aggregate - product, product - prior
    return parts[0].mean(), parts[1].mean(), parts[2].mean()
