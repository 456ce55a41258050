"""log p(x | z) of the decoder's output, in nats per sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["LIKELIHOODS", "Likelihood", "bernoulli", "gaussian"]


def bernoulli(x: Tensor, logits: Tensor, log_scale: Tensor) -> Tensor:
    """Σ x log p + (1−x) log(1−p) `(n,)` for x in [0, 1], p = σ(logits).

    For grey values this is E_b[log p(b | z)] over images b that are 1 with probability x: dynamic
    binarization (Burda et al. 2016), in expectation. The ELBO made of it bounds E_b[log p(b)].
    """
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


def gaussian(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log N(x; mean, σ²) summed over values `(n,)`, σ = exp(log_scale) one for all: a density over ℝ^size."""
    error = (x - mean).square().flatten(1).sum(1)
    size = x[0].numel()
    return -0.5 * error * torch.exp(-2.0 * log_scale) - size * (log_scale + 0.5 * math.log(2.0 * math.pi))


def bernoulli_levels(unit: Tensor, logits: Tensor, log_scale: Tensor) -> Tensor:
    """x log p + (1−x) log(1−p) of every level, up to what is the same for all of them."""
    return logits.unsqueeze(-1) * unit


def gaussian_levels(values: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """−(x − mean)²/2σ² of every level: the density at the levels, up to its sum over them."""
    return -0.5 * (values - mean.unsqueeze(-1)).square() * torch.exp(-2.0 * log_scale)


@dataclass(frozen=True)
class Likelihood:
    """A decoder's output distribution.

    log_prob: (x, raw output of the decoder, log σ) → `(n,)`; x in [0, 1] where `unit`, else in [low, high]
    levels:   (the levels' values `(k,)`, raw output, log σ) → log-weights `(…, k)`, the same way
    unit:     the raw output are logits of values in [0, 1]; else it is the mean itself
    """

    log_prob: Callable[[Tensor, Tensor, Tensor], Tensor]
    levels: Callable[[Tensor, Tensor, Tensor], Tensor]
    unit: bool


LIKELIHOODS = {
    "bernoulli": Likelihood(bernoulli, bernoulli_levels, unit=True),
    "gaussian": Likelihood(gaussian, gaussian_levels, unit=False),
}
