"""What the discriminator sees instead of samples: random views and noise, for real and made ones alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.core.contract import Context, DataSpec
from niwaki.models.gan.config import AdversaryConfig
from niwaki.nn.augment.views import differentiable_view

__all__ = ["Views"]

_RISE = 1 / 50_000
"""By how much the adaptive share moves per real sample seen: ten times as fast as in Karras et al. 2020,
Section 3, whose trainings see millions."""


class Views(nn.Module):
    """Differentiable in the samples; a new draw at every call.

    share: of samples that are changed, 0 … 1; a buffer, so that a resumed training goes on with it
    """

    share: Tensor

    def __init__(self, spec: DataSpec, config: AdversaryConfig) -> None:
        super().__init__()
        self.spec, self.config = spec, config
        self.register_buffer("share", torch.tensor(0.0 if config.augment_target else 1.0))

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        c = self.config
        if c.augment is not None:
            view = differentiable_view(x, self.spec, c.augment, ctx.rng)
            if c.augment_target:
                coin = torch.rand(len(x), generator=ctx.rng, device=x.device) < self.share
                view = torch.where(coin.view(-1, *[1] * (x.dim() - 1)), view, x)
            x = view
        if c.instance_noise and ctx.progress < 1:
            # Sønderby et al. 2017: both distributions overlap at first.
            deviation = c.instance_noise * (1 - ctx.progress) * (self.spec.high - self.spec.low)
            x = x + deviation * torch.randn(x.shape, generator=ctx.rng, device=x.device).to(x.dtype)
        return x

    @torch.no_grad()
    def follow(self, real: Tensor) -> None:
        """Move the share by what the discriminator says of real samples: r = E sign D(x) above the target
        means that it knows them by heart (Karras et al. 2020, Equation 1)."""
        if self.config.augment_target:
            way = torch.sign(real.sign().mean() - self.config.augment_target)
            self.share.add_(way * _RISE * len(real)).clamp_(0.0, 1.0)
