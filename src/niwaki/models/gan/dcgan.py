"""DCGAN, class-conditional: Radford, Metz & Chintala 2016, with a projection discriminator and lazy R1."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import (
    Batch,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Port,
)
from niwaki.models.gan.losses import discriminator_loss, generator_loss, r1_penalty
from niwaki.models.gan.networks import Discriminator, Generator
from niwaki.models.registry import ModelConfig, register
from niwaki.nn.layers.images import class_condition, image_shape, labels_of
from niwaki_runtime.samplers import OneShot

__all__ = ["Dcgan", "DcganConfig"]


class DcganConfig(ModelConfig):
    """
    latent:        length of z
    embedding:     length of a class embedding in the generator
    width:         channels at full size; doubled at every halving, up to `max_width`
    refine:        further convolutions after each upsampling
    upsampling:    `nearest` (+ convolution) or `transposed`
    norm:          `batch` or `none`, in the generator
    critic_width:  channels of the discriminator at full size; 0 is `width`
    features:      length of the discriminator's feature vector φ(x)
    deviation:     group size of the minibatch standard deviation, 0 for none
    r1:            γ of γ/2 · E‖∇D‖²
    r1_every:      R1 is computed in every so many steps, and weighted by as much
    """

    latent: int = Field(64, ge=1)
    embedding: int = Field(32, ge=1)
    width: int = Field(64, ge=1)
    max_width: int = Field(512, ge=1)
    refine: int = Field(0, ge=0)
    upsampling: Literal["nearest", "transposed"] = "nearest"
    norm: Literal["batch", "none"] = "batch"
    critic_width: int = Field(0, ge=0)
    features: int = Field(256, ge=1)
    deviation: int = Field(4, ge=0)
    r1: float = Field(1.0, ge=0)
    r1_every: int = Field(16, ge=1)


@register("dcgan")
class Dcgan(GenerativeModel):
    """A generator that makes an image in one call, trained against a discriminator.

    config: DcganConfig
    spec:   images `(C, H, W)` of at least 4×4; made for 8×8, 32×32 and 64×64. Any other size is halved while
            it is even, and the generator starts from there
    """

    Config = DcganConfig
    config: DcganConfig

    def __init__(self, config: DcganConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        shape = image_shape(spec, self.name)
        self.classes = spec.classes if config.conditioning.wants("class") else 0
        self.conditions = class_condition(spec) if self.classes else {}
        self.generator = Generator(
            shape,
            latent=config.latent,
            classes=self.classes,
            embedding=config.embedding,
            width=config.width,
            most=config.max_width,
            refine=config.refine,
            upsampling=config.upsampling,
            norm=config.norm,
            low=spec.low,
            high=spec.high,
        )
        self.discriminator = Discriminator(
            shape,
            classes=self.classes,
            width=config.critic_width or config.width,
            most=config.max_width,
            features=config.features,
            deviation=config.deviation,
        )

    def phases(self) -> tuple[Phase, ...]:
        critic = ("discriminator",)
        # The generator first: the discriminator then learns from the samples that it has just made, and they
        # are made once.
        phases = [
            Phase("generator", ("generator",), validate=False),
            Phase("discriminator", critic, fresh_batch=False, validate=False),
        ]
        if self.config.r1:
            phases.append(
                Phase(
                    "r1",
                    critic,
                    every=self.config.r1_every,
                    fresh_batch=False,
                    optimizer="discriminator",
                    double_backward=True,
                    validate=False,
                )
            )
        return tuple(phases)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {"discriminator": self._critic, "r1": self._r1, "generator": self._generator}[phase](
            batch, ctx
        )

    def _fake(self, batch: Batch, ctx: Context) -> Tensor:
        """Samples of the batch's own classes: `(n, C, H, W)`."""
        z = torch.randn(len(batch), self.config.latent, generator=ctx.rng, device=batch.x.device)
        return self.generator(z, labels_of(batch, self.classes, self.name))

    def _critic(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        y = labels_of(batch, self.classes, self.name)
        fake = ctx.shared.pop("fake", None)
        if fake is None:
            with torch.no_grad():
                fake = self._fake(batch, ctx)
        both = torch.cat([batch.x, fake.to(batch.x.dtype)])  # one pass over real and made samples
        logits = self.discriminator(both, None if y is None else torch.cat([y, y])).float()
        real, made = logits.chunk(2)
        ctx.log(real_logit=real.mean(), fake_logit=made.mean())
        return discriminator_loss(real, made)

    def _r1(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        # Float32: the penalty squares a gradient, and it is computed seldom enough not to matter for speed.
        with torch.autocast(batch.x.device.type, enabled=False):
            x = batch.x.detach().float().requires_grad_(True)
            penalty = r1_penalty(self.discriminator(x, labels_of(batch, self.classes, self.name)), x)
        ctx.log(gradient_square=penalty)
        # Lazy regularization: as much less often as it weighs more (Karras et al. 2020, Appendix B).
        return {"r1": 0.5 * self.config.r1 * self.config.r1_every * penalty}

    def _generator(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        fake = self._fake(batch, ctx)
        ctx.shared["fake"] = fake.detach()
        logits = self.discriminator(fake, labels_of(batch, self.classes, self.name))
        return {"generator": generator_loss(logits.float())}

    def graphs(self) -> dict[str, Graph]:
        inputs = [Port("z", (1, self.config.latent))]
        if self.classes:
            inputs.append(Port("class", (1,), "int64", high=self.classes))
        return {"generator": Graph("generator", self.generator, tuple(inputs))}

    def sampler(self) -> OneShot:
        c = self.config
        return OneShot(latent=(c.latent,), conditions=tuple(self.conditions)).override(**c.sampling)
