"""A discriminator beside a model: what it learns, whatever makes the samples that it is to find out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from niwaki.core.contract import Batch, Context, GenerativeModel, Phase
from niwaki.models.gan.config import AdversaryConfig
from niwaki.models.gan.gamma import choose_gamma
from niwaki.models.gan.losses import gradient_penalty, r1_penalty
from niwaki.models.gan.objectives import OBJECTIVES, Objective
from niwaki.models.gan.views import Views
from niwaki.nn.layers.equalized import clip_weights
from niwaki.nn.layers.images import labels_of

__all__ = ["Adversary"]

_CRITIC = ("discriminator",)


class Adversary(GenerativeModel):
    """A model whose samples a discriminator tells from real ones.

    A subclass hands it over by `oppose`, says by `fake` what it is shown, adds `adversary_phases` after its
    own and gives their losses to `adversary_loss`; by `adversarial_term` it plays against it.
    discriminator: samples, classes → logits `(n,)` or `(n, k)` or `(n, 1, h, w)`
    """

    config: AdversaryConfig
    classes: int
    discriminator: nn.Module
    views: Views | None

    @abstractmethod
    def fake(self, batch: Batch, ctx: Context) -> Tensor:
        """Samples as the model makes them now, of the batch's own classes: `(k·n, *shape)`, those of the
        i-th row at i, n + i, … Called under `no_grad`."""

    @property
    def objective(self) -> Objective:
        return OBJECTIVES[self.config.objective]

    def oppose(self, discriminator: nn.Module) -> None:
        """Take the discriminator in, as the settings say."""
        c = self.config
        self.discriminator = discriminator
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

    def adversary_phases(self) -> tuple[Phase, ...]:
        """Those that train the discriminator. They come last: it then learns from the samples that have just
        been made, and these are made once."""
        c = self.config
        learns = Phase(
            "discriminator",
            _CRITIC,
            repeats=c.critic_steps,
            fresh_batch=c.critic_steps > 1,
            double_backward=c.gradient_penalty > 0,
            validate=False,
        )
        penalties = tuple(
            Phase(
                name,
                _CRITIC,
                every=c.r1_every,
                fresh_batch=False,
                optimizer="discriminator",
                double_backward=True,
                validate=False,
            )
            for name in ("r1", "r2")
            if getattr(c, name)
        )
        return (learns, *penalties)

    def adversary_loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """The loss of one of `adversary_phases`."""
        return {"discriminator": self._critic, "r1": self._r1, "r2": self._r2}[phase](batch, ctx)

    def adversarial_term(self, logits: Tensor, batch: Batch, ctx: Context) -> Tensor:
        """What is minimised by what makes samples: a scalar of their logits, `k·n` rows as of `fake`."""
        real = logits
        if self.objective.relativistic:
            with torch.no_grad():
                real = self.discriminator(self._seen(batch.x, ctx), self._labels(batch)).float()
                real = _repeated(real, len(logits))
        return self.objective.generator(logits, real)

    def hand_on(self, fake: Tensor, ctx: Context) -> None:
        """Keep samples that were just made for the discriminator, where it learns from this batch."""
        if self.config.critic_steps == 1:
            ctx.shared["fake"] = fake.detach()

    def after_step(self, ctx: Context) -> None:
        if self.config.clip:  # Arjovsky et al. 2017, Algorithm 1
            clip_weights(self.discriminator, self.config.clip)

    def realness(self, batch: Batch) -> Tensor:
        logits = self.discriminator(batch.x, self._labels(batch)).float()
        return logits.flatten(1).mean(1) if logits.dim() > 1 else logits

    def _labels(self, batch: Batch) -> Tensor | None:
        return labels_of(batch, self.classes, self.name)

    def _labels_for(self, x: Tensor, batch: Batch) -> Tensor | None:
        """The batch's classes, repeated for samples `(k·n, *shape)`."""
        y = self._labels(batch)
        return None if y is None else _repeated(y, len(x))

    def _made(self, batch: Batch, ctx: Context) -> Tensor:
        """The samples that have just been made of this batch's classes, or new ones."""
        fake = ctx.shared.pop("fake", None)
        if fake is None:
            with torch.no_grad():
                fake = self.fake(batch, ctx)
        return fake.to(batch.x.dtype)

    def _seen(self, x: Tensor, ctx: Context) -> Tensor:
        return x if self.views is None else self.views(x, ctx)

    def _critic(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        fake = self._made(batch, ctx)
        both = torch.cat([batch.x, fake])  # one pass over real and made samples
        logits = self.discriminator(self._seen(both, ctx), self._labels_for(both, batch)).float()
        real, made = logits.split([len(batch), len(fake)])
        ctx.log(real_logit=real.mean(), fake_logit=made.mean())
        if self.views is not None and self.training:
            self.views.follow(real.detach())
        smoothing = self.config.label_smoothing
        terms = self.objective.discriminator(_repeated(real, len(made)), made, smoothing)
        if self.config.drift:
            terms["drift"] = self.config.drift * real.square().mean()
        if self.config.gradient_penalty:
            terms["gradient_penalty"] = self.config.gradient_penalty * self._between(batch, fake, ctx)
        return terms

    def _between(self, batch: Batch, fake: Tensor, ctx: Context) -> Tensor:
        """The gradient penalty at a point between each made sample and a real one, a draw per sample."""
        with torch.autocast(fake.device.type, enabled=False):
            real, made = _repeated(batch.x.detach().float(), len(fake)), fake.detach().float()
            share = torch.rand(len(real), generator=ctx.rng, device=real.device)
            x = torch.lerp(real, made, share.view(-1, *[1] * (real.dim() - 1))).requires_grad_(True)
            return gradient_penalty(self.discriminator(self._seen(x, ctx), self._labels_for(x, batch)), x)

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
            return r1_penalty(self.discriminator(self._seen(x, ctx), self._labels_for(x, batch)), x)


def _repeated(rows: Tensor, n: int) -> Tensor:
    """`rows` once, or several times one after another, so that there are n."""
    return rows if len(rows) == n else torch.cat([rows] * (n // len(rows)))
