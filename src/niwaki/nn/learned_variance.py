"""The variances of ancestral sampling, learned (Nichol & Dhariwal 2021, "Improved DDPM")."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["log_variance", "variance_bound"]

_LEAST = 1e-12  # of a probability, as in their code


def log_variance(share: Tensor, log_beta: Tensor, log_posterior: Tensor) -> Tensor:
    """ln Σ = v ln β + (1 − v) ln β̃ (Equation 15): between the two that are right for the least and for the
    most certain data."""
    return share * log_beta + (1.0 - share) * log_posterior


def variance_bound(
    x0: Tensor,
    estimate: Tensor,
    share: Tensor,
    now: tuple[Tensor, Tensor],
    before: tuple[Tensor, Tensor],
    least: Tensor,
    step: float = 0.0,
) -> Tensor:
    """One term of the variational bound in bits, like x₀: KL(q(x_{t−1} | x_t, x₀) ‖ p(x_{t−1} | x_t)), and at
    the first timestep −log₂ p(x₀ | x_1) (Equations 4 to 7).

    estimate: the network's x₀, whose gradient is to be stopped (Section 3.1)
    share:    v of `log_variance`
    now:      (α, σ) at t; before: at t − 1, which is (1, 0) at the first timestep; broadcast against x₀
    least:    the least posterior variance β̃ above 0, which stands for the first timestep's
    step:     distance of two levels of the data; 0 where they have none: then the density counts
    """
    (a, s), (a_before, s_before) = now, before
    beta = 1.0 - (a / a_before).square()
    posterior = (s_before / s).square() * beta
    first = s_before == 0.0
    log_posterior = torch.where(first, least, posterior).log()
    log_sigma = log_variance(share, beta.log(), log_posterior)
    # Both means hold the same share of x_t, so they differ by that of x₀ (Equation 10).
    off = a_before * beta / s.square() * (x0 - estimate)
    apart = off.square() * (-log_sigma).exp()
    kl = 0.5 * (log_sigma - log_posterior - 1.0 + (log_posterior - log_sigma).exp() + apart)
    return torch.where(first, _surprise(x0, off, log_sigma, step), kl) / math.log(2.0)


def _surprise(x0: Tensor, off: Tensor, log_sigma: Tensor, step: float) -> Tensor:
    """−ln of the probability of the level of x₀ (those at the ends take all beyond), or of its density."""
    narrow = (-0.5 * log_sigma).exp()
    if not step:
        return 0.5 * (off * narrow).square() + 0.5 * log_sigma + 0.5 * math.log(2.0 * math.pi)
    above = torch.special.ndtr((off + 0.5 * step) * narrow)
    below = torch.special.ndtr((off - 0.5 * step) * narrow)
    above = torch.where(x0 > 1.0 - 0.5 * step, torch.ones_like(above), above)
    below = torch.where(x0 < -1.0 + 0.5 * step, torch.zeros_like(below), below)
    return -(above - below).clamp(min=_LEAST).log()
