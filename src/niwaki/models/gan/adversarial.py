"""A generator and a discriminator that play against each other, whatever their networks are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, DataSpec, Graph, Phase, Port
from niwaki.models.gan.adversary import Adversary
from niwaki.models.gan.config import AdversarialConfig
from niwaki.models.gan.losses import feature_matching, mode_seeking
from niwaki.nn.layers.images import class_condition
from niwaki_runtime.samplers import OneShot, Sampler

__all__ = ["AdversarialModel"]


class AdversarialModel(Adversary):
    """z and class → samples in one call of `generator`, trained against `discriminator`.

    A subclass makes both networks and calls `play`; `generate` says what the generator is given in training:
    generator:     z `(n, latent)`, classes `(n,)` or None → samples `(n, *shape)`
    discriminator: samples, classes → logits `(n,)` or `(n, k)`; `features` of it: samples → `(n, k)`
    """

    config: AdversarialConfig
    latent: int
    generator: nn.Module

    def __init__(self, config: AdversarialConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.classes = spec.classes if config.conditioning.wants("class") else 0
        self.conditions = class_condition(spec) if self.classes else {}

    def play(self, generator: nn.Module, discriminator: nn.Module, *, latent: int) -> None:
        """Take both networks in, as the settings say."""
        self.latent, self.generator = latent, generator
        self.oppose(discriminator)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("generator", ("generator",), validate=False), *self.adversary_phases())

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return self._generator(batch, ctx) if phase == "generator" else self.adversary_loss(phase, batch, ctx)

    def _latents(self, batch: Batch, ctx: Context) -> Tensor:
        return torch.randn(len(batch), self.latent, generator=ctx.rng, device=batch.x.device)

    def fake(self, batch: Batch, ctx: Context) -> Tensor:
        return self.generate(self._latents(batch, ctx), self._labels(batch), ctx)

    def generate(self, z: Tensor, y: Tensor | None, ctx: Context) -> Tensor:
        """Samples of latents `(n, latent)` and classes `(n,)` as training makes them: `(n, *shape)`."""
        return self.generator(z, y)

    def _generator(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        c, y, z = self.config, self._labels(batch), self._latents(batch, ctx)
        fake = self.generate(z, y, ctx)
        self.hand_on(fake, ctx)
        seen = self._seen(fake, ctx)
        terms = {"generator": self.adversarial_term(self.discriminator(seen, y).float(), batch, ctx)}
        if c.feature_matching:
            with torch.no_grad():
                aim = self.discriminator.features(self._seen(batch.x, ctx))  # type: ignore[operator]
            found = self.discriminator.features(seen)  # type: ignore[operator]
            terms["feature_matching"] = c.feature_matching * feature_matching(aim.float(), found.float())
        if c.mode_seeking:
            other = self._latents(batch, ctx)
            terms["mode_seeking"] = c.mode_seeking * mode_seeking(
                fake, self.generate(other, y, ctx), z, other
            )
        return terms

    def graphs(self) -> dict[str, Graph]:
        inputs = [Port("z", (1, self.latent))]
        if self.classes:
            inputs.append(Port("class", (1,), "int64", high=self.classes))
        return {"generator": Graph("generator", self.generator, tuple(inputs))}

    def sampler(self) -> Sampler:
        shape, named = (self.latent,), tuple(self.conditions)
        return OneShot(latent=shape, conditions=named).override(**self.config.sampling)
