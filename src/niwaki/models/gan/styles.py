"""Styles of samples: two of them in one image, and the mean of all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MeanStyle", "crossover"]


def crossover(one: Tensor, other: Tensor, layers: int, share: float, rng: torch.Generator) -> Tensor:
    """Style mixing (Karras et al. 2019, Section 3.1): styles `(n, style)` → `(n, layers, style)`.

    In a share of the samples, a coin and a place for each, the layers from that place on have the other
    style; at least the first layer has the one, at least the last the other.
    """
    n, device = len(one), one.device
    places = torch.randint(1, max(layers, 2), (n,), generator=rng, device=device)
    mixed = torch.rand(n, generator=rng, device=device) < share
    cut = torch.where(mixed, places, layers)
    first = torch.arange(layers, device=device) < cut[:, None]
    return torch.where(first[:, :, None], one[:, None], other[:, None])


class MeanStyle(nn.Module):
    """The mean style of every class, `(classes or 1, style)`, as moving averages in buffers.

    A class has a mean of its own: towards that of all classes, a sample would lose what was asked for.
    """

    mean: Tensor
    seen: Tensor

    def __init__(self, classes: int, style: int, *, decay: float = 0.995) -> None:
        super().__init__()
        self.decay = decay  # for every sample of the class
        self.register_buffer("mean", torch.zeros(max(classes, 1), style))
        self.register_buffer("seen", torch.zeros(max(classes, 1)))

    def forward(self, y: Tensor | None) -> Tensor:
        """The mean styles of classes `(n,)`: `(n, style)`; without classes `(1, style)`."""
        return self.mean if y is None else self.mean[y]

    @torch.no_grad()
    def follow(self, w: Tensor, y: Tensor | None) -> None:
        """Move the means towards styles `(n, style)` of classes `(n,)`."""
        w = w.detach().float()
        if y is None:
            y = torch.zeros(len(w), dtype=torch.int64, device=w.device)
        count = torch.zeros_like(self.seen).index_add_(0, y, torch.ones_like(y, dtype=torch.float32))
        found = torch.zeros_like(self.mean).index_add_(0, y, w) / count.clamp(min=1)[:, None]
        self.seen.add_(count)
        # Plain means at first, which the start at zero does not weigh on.
        rate = torch.maximum(1 - self.decay**count, count / self.seen.clamp(min=1))
        self.mean.lerp_(found, rate[:, None])
