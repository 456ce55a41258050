"""Contrastive losses: two views of one sample shall lie near each other, views of different samples apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["info_nce", "nt_xent"]


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """NT-Xent: the mean over all 2n views i of −log exp(s_ij/τ) / Σ_{k≠i} exp(s_ik/τ), j the other view of
    the same sample and s the cosine similarity (Chen et al., "A simple framework for contrastive learning of
    visual representations", ICML 2020, equation 1).

    a, b:        projections `(n, d)` of the two views, of any length; row i of both is one sample
    temperature: τ > 0
    Computed in float32 or wider, whatever autocast says: s/τ in bf16 has steps of 0.04 at τ = 0.1.
    """
    n = len(a)
    with torch.autocast(a.device.type, enabled=False):
        z = F.normalize(_wide(torch.cat([a, b])), dim=1)
        s = (z @ z.T) / temperature
        s = s.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=s.device), float("-inf"))
        partner = torch.arange(2 * n, device=s.device).roll(n)
        return F.cross_entropy(s, partner)


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE: the mean over i of −log exp(q_i·k_i/τ) / (exp(q_i·k_i/τ) + Σ_j exp(q_i·k⁻_j/τ)) (He et al.,
    "Momentum contrast for unsupervised visual representation learning", CVPR 2020, equation 1).

    query, key: `(n, d)`, of length 1
    queue:      negatives k⁻ `(K, d)`, of length 1
    """
    with torch.autocast(query.device.type, enabled=False):
        q, k = _wide(query), _wide(key)
        own = (q * k).sum(1, keepdim=True)
        s = torch.cat([own, q @ queue.to(q.dtype).T], 1) / temperature
        return F.cross_entropy(s, torch.zeros(len(s), dtype=torch.long, device=s.device))


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
