"""A generator and a discriminator that play against each other, whatever their networks are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from niwaki.core.contract import Batch, Context, DataSpec, GenerativeModel, Graph, Phase, Port
from niwaki.models.gan.config import AdversarialConfig
from niwaki.models.gan.gamma import choose_gamma
from niwaki.models.gan.losses import feature_matching, gradient_penalty, mode_seeking, r1_penalty
from niwaki.models.gan.objectives import OBJECTIVES
from niwaki.models.gan.views import Views
from niwaki.nn.layers.equalized import clip_weights
from niwaki.nn.layers.images import class_condition, labels_of
from niwaki_runtime.samplers import OneShot, Sampler

__all__ = ["AdversarialModel"]


class AdversarialModel(GenerativeModel):
    """z and class → samples in one call of `generator`, trained against `discriminator`.

    A subclass makes both networks and calls `play`; `generate` says what the generator is given in training:
    generator:     z `(n, latent)`, classes `(n,)` or None → samples `(n, *shape)`
    discriminator: samples, classes → logits `(n,)` or `(n, k)`; `features` of it: samples → `(n, k)`
    """

    config: AdversarialConfig
    latent: int
    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, config: AdversarialConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.objective = OBJECTIVES[config.objective]
        self.classes = spec.classes if config.conditioning.wants("class") else 0
        self.conditions = class_condition(spec) if self.classes else {}

    def play(self, generator: nn.Module, discriminator: nn.Module, *, latent: int) -> None:
        """Take both networks in, as the settings say."""
        c = self.config
        self.latent, self.generator, self.discriminator = latent, generator, discriminator
        if c.spectral:
            for module in list(discriminator.modules()):
                if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
                    if not module.weight.any():  # zeros have no largest singular value to divide by
                        nn.init.normal_(module.weight)
                    spectral_norm(module)
        self.views = Views(self.spec, c) if c.augment or c.instance_noise else None
        for name in self._by_rule:
            self.register_buffer(f"gamma_{name}", torch.zeros(()))

    @property
    def _by_rule(self) -> tuple[str, ...]:
        return tuple(name for name in ("r1", "r2") if getattr(self.config, name) == "auto")

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        for name in self._by_rule:
            getattr(self, f"gamma_{name}").fill_(choose_gamma(name, self.spec, len(batches(0)), ctx))

    def gamma(self, name: str) -> float | Tensor:
        """Weight of the penalty `r1` or `r2`, as it is set or as the rule has chosen it."""
        chosen: Tensor = getattr(self, f"gamma_{name}", None)  # type: ignore[assignment]
        return getattr(self.config, name) if chosen is None else chosen

    def phases(self) -> tuple[Phase, ...]:
        c, critic = self.config, ("discriminator",)
        # The generator first: the discriminator then learns from the samples that it has just made, and they
        # are made once.
        phases = [
            Phase("generator", ("generator",), validate=False),
            Phase(
                "discriminator",
                critic,
                repeats=c.critic_steps,
                fresh_batch=c.critic_steps > 1,
                double_backward=c.gradient_penalty > 0,
                validate=False,
            ),
        ]
        for name in ("r1", "r2"):
            if getattr(c, name):
                phases.append(
                    Phase(
                        name,
                        critic,
                        every=c.r1_every,
                        fresh_batch=False,
                        optimizer="discriminator",
                        double_backward=True,
                        validate=False,
                    )
                )
        return tuple(phases)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        terms = {"discriminator": self._critic, "r1": self._r1, "r2": self._r2, "generator": self._generator}
        return terms[phase](batch, ctx)

    def after_step(self, ctx: Context) -> None:
        if self.config.clip:  # Arjovsky et al. 2017, Algorithm 1
            clip_weights(self.discriminator, self.config.clip)

    def realness(self, batch: Batch) -> Tensor:
        logits = self.discriminator(batch.x, self._labels(batch)).float()
        return logits.flatten(1).mean(1) if logits.dim() > 1 else logits

    def _labels(self, batch: Batch) -> Tensor | None:
        return labels_of(batch, self.classes, self.name)

    def _latents(self, batch: Batch, ctx: Context) -> Tensor:
        return torch.randn(len(batch), self.latent, generator=ctx.rng, device=batch.x.device)

    def _fake(self, batch: Batch, ctx: Context) -> Tensor:
        """Samples of the batch's own classes: `(n, *shape)`."""
        return self.generate(self._latents(batch, ctx), self._labels(batch), ctx)

    def generate(self, z: Tensor, y: Tensor | None, ctx: Context) -> Tensor:
        """Samples of latents `(n, latent)` and classes `(n,)` as training makes them: `(n, *shape)`."""
        return self.generator(z, y)

    def _made(self, batch: Batch, ctx: Context) -> Tensor:
        """The samples that the generator has just made of this batch's classes, or new ones."""
        fake = ctx.shared.pop("fake", None)
        if fake is None:
            with torch.no_grad():
                fake = self._fake(batch, ctx)
        return fake.to(batch.x.dtype)

    def _seen(self, x: Tensor, ctx: Context) -> Tensor:
        return x if self.views is None else self.views(x, ctx)

    def _critic(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        y, fake = self._labels(batch), self._made(batch, ctx)
        both = torch.cat([batch.x, fake])  # one pass over real and made samples
        logits = self.discriminator(self._seen(both, ctx), None if y is None else torch.cat([y, y])).float()
        real, made = logits.chunk(2)
        ctx.log(real_logit=real.mean(), fake_logit=made.mean())
        if self.views is not None and self.training:
            self.views.follow(real.detach())
        terms = self.objective.discriminator(real, made, self.config.label_smoothing)
        if self.config.drift:
            terms["drift"] = self.config.drift * real.square().mean()
        if self.config.gradient_penalty:
            terms["gradient_penalty"] = self.config.gradient_penalty * self._between(batch, fake, ctx)
        return terms

    def _between(self, batch: Batch, fake: Tensor, ctx: Context) -> Tensor:
        """The gradient penalty at a point between each real sample and a made one, a draw per sample."""
        with torch.autocast(fake.device.type, enabled=False):
            real, made = batch.x.detach().float(), fake.detach().float()
            share = torch.rand(len(real), generator=ctx.rng, device=real.device)
            x = torch.lerp(real, made, share.view(-1, *[1] * (real.dim() - 1))).requires_grad_(True)
            return gradient_penalty(self.discriminator(self._seen(x, ctx), self._labels(batch)), x)

    def _r1(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        penalty = self._slope(batch.x, batch, ctx)
        ctx.log(gradient_square=penalty)
        return {"r1": 0.5 * self.gamma("r1") * self.config.r1_every * penalty}

    def _r2(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        penalty = self._slope(self._made(batch, ctx), batch, ctx)
        return {"r2": 0.5 * self.gamma("r2") * self.config.r1_every * penalty}

    def _slope(self, x: Tensor, batch: Batch, ctx: Context) -> Tensor:
        """E‖∇D‖² at raw samples, through the views. Float32: it squares a gradient, and is computed seldom
        enough not to matter for speed; as much less often as it weighs more (Karras et al. 2020, Appendix
        B)."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.detach().float().requires_grad_(True)
            return r1_penalty(self.discriminator(self._seen(x, ctx), self._labels(batch)), x)

    def _generator(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        c, y, z = self.config, self._labels(batch), self._latents(batch, ctx)
        fake = self.generate(z, y, ctx)
        if c.critic_steps == 1:
            ctx.shared["fake"] = fake.detach()
        seen = self._seen(fake, ctx)
        logits = self.discriminator(seen, y).float()
        real = logits
        if self.objective.relativistic:
            with torch.no_grad():
                real = self.discriminator(self._seen(batch.x, ctx), y).float()
        terms = {"generator": self.objective.generator(logits, real)}
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
