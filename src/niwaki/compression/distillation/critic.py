"""A critic of its own that tells a student's samples from its teacher's, for models that bring none.

Hinge loss (Lim & Ye 2017) with spectral norm (Miyato et al. 2018) and projected classes (Miyato & Koyama
2018).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from niwaki.core.contract import DataSpec

__all__ = ["Critic", "critic_loss", "fooling_loss"]


class Critic(nn.Module):
    """Samples `(n, *shape)` and classes `(n,)` or None → scores `(n,)`.

    Convolutions of stride two over the axes behind the channels until few positions are left; samples without
    such axes go through linear layers.
    """

    def __init__(self, spec: DataSpec, width: int = 64) -> None:
        super().__init__()
        axes = len(spec.shape) - 1
        if axes in (1, 2, 3):
            conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
            channels, out = spec.shape[0], width
            layers: list[nn.Module] = []
            halvings = max(1, min(4, int(math.log2(max(max(spec.shape[1:]) // 4, 1))) + 1))
            for _ in range(halvings):
                layers += [spectral_norm(conv(channels, out, 3, stride=2, padding=1)), nn.LeakyReLU(0.2)]
                channels, out = out, min(2 * out, 4 * width)
            self.body = nn.Sequential(*layers)
        else:
            channels = 2 * width
            self.body = nn.Sequential(
                nn.Flatten(),
                spectral_norm(nn.Linear(math.prod(spec.shape), channels)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Linear(channels, channels)),
                nn.LeakyReLU(0.2),
            )
        self.score = spectral_norm(nn.Linear(channels, 1))
        self.classes = spectral_norm(nn.Embedding(spec.classes, channels)) if spec.classes else None

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        h = self.body(x).flatten(2).mean(2) if x.ndim > 2 else self.body(x)
        found = self.score(h).squeeze(1)
        if self.classes is not None and y is not None:
            found = found + (h * self.classes(y)).sum(1)
        return found


def critic_loss(wanted: Tensor, made: Tensor) -> Tensor:
    """E max(0, 1 − D(t)) + E max(0, 1 + D(s))"""
    return F.relu(1.0 - wanted).mean() + F.relu(1.0 + made).mean()


def fooling_loss(made: Tensor) -> Tensor:
    """−E D(s)"""
    return -torch.mean(made)
