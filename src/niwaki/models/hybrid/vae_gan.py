"""VAE-GAN (Larsen, Sønderby, Larochelle & Winther 2016, "Autoencoding beyond pixels using a learned
similarity metric"): a VAE whose reconstruction is measured in the features of a discriminator, which it plays
against."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from niwaki.core.contract import Batch, Context, DataSpec, Phase
from niwaki.models.gan.adversary import Adversary
from niwaki.models.gan.config import AdversaryConfig
from niwaki.models.gan.networks import Discriminator
from niwaki.models.registry import register
from niwaki.models.vae.divergences import kl_to_standard
from niwaki.models.vae.vae import Vae, VaeConfig
from niwaki.nn.layers.images import image_shape

__all__ = ["VaeGan", "VaeGanConfig"]

_LEAST = 1e-8  # of a mean squared error whose logarithm is taken
_RATE = 0.02  # of following


class VaeGanConfig(VaeConfig, AdversaryConfig):
    """
    gamma:        weight of the reconstruction in the decoder's loss, beside the adversarial term (γ of
                  Algorithm 1)
    critic_width: channels of the discriminator at full size
    max_width:    most channels of it
    features:     length of its feature vector φ(x)
    deviation:    group size of its minibatch standard deviation, 0 for none
    other settings: as in `VaeConfig`, without `importance`, and in `AdversaryConfig`
    """

    gamma: float = Field(1.0, ge=0)
    critic_width: int = Field(32, ge=1)
    max_width: int = Field(256, ge=1)
    features: int = Field(256, ge=1)
    deviation: int = Field(4, ge=0)

    @model_validator(mode="after")
    def _one_sample_for_each(self) -> Self:
        if self.importance != 1:
            raise ValueError("importance has no meaning here: the reconstruction is that of one latent")
        return self


@register("vae-gan")
class VaeGan(Adversary, Vae):
    """Encoder, decoder and discriminator, each with a loss of its own (Algorithm 1): the encoder minimises
    the reconstruction's error in features and the KL term, the decoder that error and the adversarial term,
    of reconstructions and of samples of the prior. No gradient of the adversarial term reaches the encoder,
    and none of the reconstruction the discriminator.

    The likelihood of features is a Gaussian of the deviation that suits the batch best, whatever scale the
    discriminator gives them. That of pixels, by which `log_prob` bounds log p(x) and the codec codes, trains
    nothing: its deviation follows the reconstructions.

    config: VaeGanConfig
    spec:   images `(C, H, W)` of at least 4×4
    """

    Config = VaeGanConfig
    config: VaeGanConfig
    discriminator: Discriminator

    def __init__(self, config: VaeGanConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        critic = Discriminator(
            image_shape(spec, self.name),
            classes=self.classes,
            width=config.critic_width,
            most=config.max_width,
            features=config.features,
            deviation=config.deviation,
            bias=self.objective.levelled,
        )
        self.oppose(critic)
        if not self.likelihood.unit:  # no loss moves it: see `_follow`
            del self.log_scale
            self.register_buffer("log_scale", torch.zeros(()))

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("encoder", ("encoder",), validate=False),
            Phase("decoder", ("decoder",), fresh_batch=False, validate=False),
            *self.adversary_phases(),
        )

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        own = {"encoder": self._encoder, "decoder": self._decoder}
        return own[phase](batch, ctx) if phase in own else self.adversary_loss(phase, batch, ctx)

    def _encoder(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """−E log p(φ(x) | z) + KL(q(z | x) ‖ p(z)); terms are per value, of features and of the image."""
        y, c = self._labels(batch), self.config
        mean, log_var = self.posterior(batch.x, y)
        z = self._drawn(mean, log_var, ctx)
        made = self.decoder(z, *_given(y))
        kl = kl_to_standard(mean, log_var).flatten(1).sum(1).mean()
        ctx.log(nats_of_latent=kl)
        if self.training:
            self._follow(batch.x, made.detach())
        ctx.shared["z"] = z.detach()
        return {
            "reconstruction": self._unlike(batch.x, made),
            "kl": c.beta * self.ramp(ctx) * kl / self.spec.size,
            **self.independence(z, mean, log_var, ctx),
        }

    def _decoder(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        both = self._draw(batch, ctx.shared.pop("z", None), ctx)
        self.hand_on(both, ctx)
        logits = self.discriminator(self._seen(both, ctx), self._labels_for(both, batch)).float()
        return {
            "reconstruction": self.config.gamma * self._unlike(batch.x, both[: len(batch)]),
            "generator": self.adversarial_term(logits, batch, ctx),
        }

    def fake(self, batch: Batch, ctx: Context) -> Tensor:
        return self._draw(batch, None, ctx)

    def _draw(self, batch: Batch, z: Tensor | None, ctx: Context) -> Tensor:
        """Reconstructions, by latents z or by new ones, and as many samples of the prior: `(2n, C, H, W)`."""
        if z is None:
            with torch.no_grad():
                z = self._drawn(*self.posterior(batch.x, self._labels(batch)), ctx)
        free = torch.randn(z.shape, generator=ctx.rng, device=z.device)
        both = torch.cat([z, free])
        return self.decoder(both, *_given(self._labels_for(both, batch)))

    def _drawn(self, mean: Tensor, log_var: Tensor, ctx: Context) -> Tensor:
        eps = torch.randn(mean.shape, generator=ctx.rng, device=mean.device)
        return mean + (0.5 * log_var).exp() * eps

    def _unlike(self, x: Tensor, made: Tensor) -> Tensor:
        """−log N(φ(x); φ(x̃), σ²) per feature (Equation 7), up to a constant, at the σ that is most likely: σ²
        is the batch's mean squared error (Rybkin et al. 2021, Equation 9)."""
        with torch.no_grad():
            aim = self.discriminator.maps(x).float()
        found = self.discriminator.maps(made.to(x.dtype)).float()
        return 0.5 * ((aim - found).square().mean() + _LEAST).log()

    @torch.no_grad()
    def _follow(self, x: Tensor, made: Tensor) -> None:
        """Bring the deviation of pixels towards that of reconstructions, where there is one."""
        if not self.likelihood.unit:
            found = 0.5 * ((x - made).float().square().mean() + _LEAST).log()
            self.log_scale.lerp_(found, _RATE)


def _given(y: Tensor | None) -> tuple[Tensor, ...]:
    return () if y is None else (y,)
