"""The KL-regularized autoencoder of latent diffusion in full (Rombach et al. 2022, Appendix G)."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor

from niwaki.core.contract import Batch, Context, DataSpec, Phase
from niwaki.models.hybrid.sharp import Sharp, SharpConfig
from niwaki.models.registry import register
from niwaki.models.vae.autoencoder import SpatialVae, SpatialVaeConfig
from niwaki.models.vae.divergences import kl_to_standard

__all__ = ["KlAutoencoder", "KlAutoencoderConfig"]


class KlAutoencoderConfig(SpatialVaeConfig, SharpConfig):
    """As in `SpatialVaeConfig`, without `importance`, and in `SharpConfig`."""

    @model_validator(mode="after")
    def _one_sample_for_each(self) -> Self:
        if self.importance != 1:
            raise ValueError("importance has no meaning here: the reconstruction is that of one latent")
        return self


@register("kl-autoencoder")
class KlAutoencoder(Sharp, SpatialVae):
    """`spatial-vae`, whose reconstructions are also compared by a network that looks at them, and shown to a
    discriminator.

    config: KlAutoencoderConfig
    spec:   images `(C, H, W)`, height and width multiples of 2^halvings
    """

    Config = KlAutoencoderConfig
    config: KlAutoencoderConfig

    def __init__(self, config: KlAutoencoderConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.prepare_sharpness()

    def phases(self) -> tuple[Phase, ...]:
        scale = () if self.likelihood.unit else ("log_scale",)
        return (self.autoencoder_phase("encoder", "decoder", *scale), *self.adversary_phases())

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        if phase != "autoencoder":
            return self.adversary_loss(phase, batch, ctx)
        size = self.spec.size
        mean, log_var = self.posterior(batch.x)
        z = self._drawn(mean, log_var, ctx)
        raw = self.decoder.raw(z)  # type: ignore[operator]
        told = self.raw_log_likelihood(batch.x, raw)
        kl = kl_to_standard(mean, log_var).flatten(1).sum(1).mean()
        ctx.log(nats_of_latent=kl)
        reconstruction = -told.mean() / size
        return {
            "reconstruction": reconstruction,
            "kl": self.config.beta * self.ramp(ctx) * kl / size,
            **self.independence(z, mean, log_var, ctx),
            **self.sharpness(reconstruction, self.decoder.finish(raw), batch, ctx),  # type: ignore[operator]
        }

    def fake(self, batch: Batch, ctx: Context) -> Tensor:
        return self.decoder(self._drawn(*self.posterior(batch.x), ctx))

    def _drawn(self, mean: Tensor, log_var: Tensor, ctx: Context) -> Tensor:
        eps = torch.randn(mean.shape, generator=ctx.rng, device=mean.device)
        return mean + (0.5 * log_var).exp() * eps
