"""Masked tokens: what is hidden in training, and what the network then pays (absorbing-state diffusion)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["hide", "masked_nll"]


def hide(x: Tensor, mask: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens `(n, L)` with k of each sample's places replaced by `mask`, and which those are `(n, L)` bool.

    k is 1 … L, each equally likely, and spread evenly over the batch (the low-discrepancy times of Kingma et
    al. 2021, "Variational diffusion models", Appendix I.1); the places are random.
    """
    n, length = x.shape
    t = torch.rand((), generator=rng, device=x.device) + torch.arange(n, device=x.device) / n
    count = ((t % 1.0) * length).long().clamp(max=length - 1) + 1
    places = torch.rand(n, length, generator=rng, device=x.device)
    hidden = places.argsort(1).argsort(1) < count.unsqueeze(1)
    return torch.where(hidden, mask, x), hidden


def masked_nll(logits: Tensor, x: Tensor, hidden: Tensor) -> Tensor:
    """−ELBO per token, in nats: the mean over samples of the mean of −log p over hidden places.

    The 1/t of the continuous time is in it: of k masked places it weighs 1/k once the times at which there
    are k have been integrated (`niwaki_runtime.samplers.MaskedBound`). Places that show their token have no
    part in it.

    logits: `(n, L, V)`; x: the true tokens `(n, L)`; hidden: `(n, L)` bool, at least one in each row
    """
    nll = F.cross_entropy(logits.float().flatten(0, 1), x.flatten(), reduction="none").view(x.shape)
    return (torch.where(hidden, nll, 0.0).sum(1) / hidden.sum(1)).mean()
