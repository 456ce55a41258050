"""The variational autoencoder: Kingma & Welling 2014; β: Higgins et al. 2017; classes: Sohn et al. 2015;
several samples for the bound: Burda et al. 2016; total correlation: Chen et al. 2018."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    Graph,
    Phase,
    Port,
    Program,
    Real,
    ValueSpec,
    View,
)
from niwaki.models.registry import register
from niwaki.models.vae.coding import Coding
from niwaki.models.vae.divergences import kl_to_standard, log_normal, total_correlation
from niwaki.models.vae.importance import log_mean_exp, repeat_rows
from niwaki.models.vae.likelihoods import LIKELIHOODS
from niwaki.models.vae.networks import Decoder, Encoder
from niwaki.models.vae.vae_config import VaeConfig
from niwaki.nn.layers.images import class_condition, image_shape, labels_of, to_signed, to_unit
from niwaki_runtime import noise
from niwaki_runtime.samplers import OneShot

__all__ = ["Vae", "VaeConfig"]


@register("vae")
class Vae(Coding):
    """A decoder that makes an image in one call, trained with an encoder on the evidence lower bound.

    config: VaeConfig
    spec:   images `(C, H, W)` of at least 4×4
    """

    Config: type[VaeConfig] = VaeConfig
    config: VaeConfig

    def __init__(self, config: VaeConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        shape = image_shape(spec, self.name)
        self.classes = self._classes()
        self.conditions = class_condition(spec) if self.classes else {}
        self.likelihood = LIKELIHOODS[config.likelihood]
        self.encoder, self.decoder = self._networks(shape)
        # log σ of the Gaussian likelihood (Rybkin et al. 2021, "Simple and effective VAE training with
        # calibrated decoders"); a Bernoulli has none, so it is no parameter there.
        log_scale = torch.zeros(())
        if self.likelihood.unit:
            self.register_buffer("log_scale", log_scale, persistent=False)
        else:
            self.log_scale = nn.Parameter(log_scale)

    def _classes(self) -> int:
        """How many classes it is conditioned on."""
        return self.spec.classes if self.config.conditioning.wants("class") else 0

    def _networks(self, shape: tuple[int, int, int]) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder of images of that shape."""
        c, asked = self.config, {"latent": self.config.latent, "classes": self.classes}
        encoder = Encoder(shape, **asked, embedding=c.embedding, width=c.width, hidden=c.hidden)
        decoder = Decoder(
            shape,
            **asked,
            embedding=c.embedding,
            width=c.width,
            upsampling=c.upsampling,
            unit=self.likelihood.unit,
            low=self.spec.low,
            high=self.spec.high,
        )
        return encoder, decoder

    @property
    def latent(self) -> ValueSpec:
        """What z is."""
        return ValueSpec("vector", (self.config.latent,), "C", Real(-math.inf, math.inf))

    def phases(self) -> tuple[Phase, ...]:
        scale = () if self.likelihood.unit else ("log_scale",)
        return (Phase("elbo", ("encoder", "decoder", *scale)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        y = labels_of(batch, self.classes, self.name)
        c, size = self.config, self.spec.size  # terms are per value, whatever the size of the images
        mean, log_var = self.posterior(batch.x, y)
        shape = mean.shape if c.importance == 1 else (len(batch), c.importance, *mean.shape[1:])
        eps = torch.randn(shape, generator=ctx.rng, device=mean.device)
        ramp = self.ramp(ctx)
        kl = kl_to_standard(mean, log_var).flatten(1).sum(1).mean()
        if c.importance == 1:
            z = mean + (0.5 * log_var).exp() * eps
            reconstruction = -self._log_likelihood(batch.x, z, y).mean()
            ctx.log(elbo=-(reconstruction + kl), nats_of_latent=kl)
            terms = {"reconstruction": reconstruction / size, "kl": c.beta * ramp * kl / size}
        else:
            bound = self._weighted(batch.x, mean, log_var, eps, y, c.beta * ramp).mean()
            ctx.log(bound=bound, nats_of_latent=kl)
            terms = {"bound": -bound / size}
            z = mean + (0.5 * log_var).exp() * eps[:, 0]
        return {**terms, **self.independence(z, mean, log_var, ctx)}

    def ramp(self, ctx: Context) -> float:
        """Share of β that the KL term has so far."""
        return min(1.0, ctx.progress / self.config.warmup) if self.config.warmup else 1.0

    def independence(self, z: Tensor, mean: Tensor, log_var: Tensor, ctx: Context) -> dict[str, Tensor]:
        """What the total correlation of the latents costs beside its part in the KL term; {} for the ELBO.

        z: `(n, *latent)`, drawn from each row's posterior
        """
        weight = self.config.total_correlation - 1.0
        if not weight:
            return {}
        found = total_correlation(*(t.flatten(1) for t in (z, mean, log_var)))
        ctx.log(nats_of_total_correlation=found)
        return {"total_correlation": weight * self.ramp(ctx) * found / self.spec.size}

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), float32, each `(n, *latent)`."""
        mean, log_var = self.encoder(to_signed(x, self.spec), *(() if y is None else (y,)))
        return mean.float(), log_var.float()

    def _log_likelihood(self, x: Tensor, z: Tensor, y: Tensor | None) -> Tensor:
        """log p(x | z) in nats `(n,)`."""
        return self.raw_log_likelihood(x, self.decoder.raw(z, *(() if y is None else (y,))))  # type: ignore[operator]

    def raw_log_likelihood(self, x: Tensor, raw: Tensor) -> Tensor:
        """The same of what the decoder's `raw` gave."""
        x = to_unit(x, self.spec) if self.likelihood.unit else x
        return self.likelihood.log_prob(x.float(), raw.float(), self.log_scale.float())

    def elbo(self, x: Tensor, y: Tensor | None = None, *, draws: int = 1, seed: int = 0) -> Tensor:
        """E_q[log p(x | z)] − KL(q(z | x) ‖ p(z)) in nats `(n,)`: at most log p(x), or log p(x | y).

        The expectation is the mean of `draws` counter-based draws of `seed`, the KL is exact; β is left out.
        """
        mean, log_var = self.posterior(x, y)
        spread = (0.5 * log_var).exp()
        total = -kl_to_standard(mean, log_var).flatten(1).sum(1)
        for draw in range(draws):
            eps = torch.from_numpy(noise.normal(seed, 0, x.shape[0], mean.shape[1:], draw=draw)).to(mean)
            total = total + self._log_likelihood(x, mean + spread * eps, y) / draws
        return total

    def elbo_of_draw(self, eps: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The unbiased estimate log p(x | z) − KL(q(z | x) ‖ p(z)) at z = μ + σ ε, in nats `(n,)`."""
        mean, log_var = self.posterior(x, y)
        z = mean + (0.5 * log_var).exp() * eps
        return self._log_likelihood(x, z, y) - kl_to_standard(mean, log_var).flatten(1).sum(1)

    def _weighted(
        self, x: Tensor, mean: Tensor, log_var: Tensor, eps: Tensor, y: Tensor | None, beta: float = 1.0
    ) -> Tensor:
        """log 1/k Σ p(x | z) (p(z)/q(z | x))^β over the k samples that `eps` `(n, k, *latent)` makes."""
        k = eps.shape[1]
        mean, log_var, x = (repeat_rows(t, k) for t in (mean, log_var, x))
        eps = eps.flatten(0, 1)
        z = mean + (0.5 * log_var).exp() * eps
        # log q(z | x) by ε itself: (z − μ)/σ again would lose digits where σ is small
        posterior = -0.5 * (eps.square() + log_var + math.log(2.0 * math.pi))
        divergence = (posterior - log_normal(z, torch.zeros_like(z), torch.zeros_like(z))).flatten(1).sum(1)
        likelihood = self._log_likelihood(x, z, None if y is None else repeat_rows(y, k))
        return log_mean_exp(likelihood - beta * divergence, k)

    def bound_of_draws(self, eps: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The bound of Burda et al. 2016 by the samples of z that `eps` `(n, k, *latent)` makes, in nats
        `(n,)`."""
        mean, log_var = self.posterior(x, y)
        return self._weighted(x, mean, log_var, eps, y)

    def importance_bound(self, x: Tensor, y: Tensor | None = None, *, samples: int, seed: int = 0) -> Tensor:
        """`bound_of_draws` by counter-based samples of `seed`: in expectation it rises with their number, up
        to log p(x), or log p(x | y)."""
        eps = noise.normal(seed, 0, x.shape[0], (samples, *self.latent.shape))
        return self.bound_of_draws(torch.from_numpy(eps).to(x), x, y)

    @property
    def _bound(self) -> int:
        """Samples that `log_prob` takes."""
        return self.config.bound or self.config.importance

    def log_prob(self, x: Tensor, y: Tensor | None = None, *, draws: int = 8, seed: int = 0) -> Tensor:
        """A lower bound of log p(x) in nats `(n,)`, of log p(x | y) given classes `y` `(n,)`: the mean ELBO
        of `draws`, or the bound by as many samples as the config's `bound` or `importance` say.

        Gaussian: log-density per sample, values in the spec's range. Bernoulli: the bound is on the expected
        log-probability of the image binarized with its grey values. A conditional model without `y` sums over
        equally likely classes: log p(x) ≥ log Σ_y e^ELBO(x, y) / K.
        """
        if not self.classes or y is not None:
            if self._bound > 1:
                return self.importance_bound(x, y, samples=self._bound, seed=seed)
            return self.elbo(x, y, draws=draws, seed=seed)
        each = [
            self.log_prob(x, torch.full((x.shape[0],), c, device=x.device), draws=draws, seed=seed)
            for c in range(self.classes)
        ]
        return torch.logsumexp(torch.stack(each), dim=0) - math.log(self.classes)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The posterior's mean `(n, latent)`; a conditional model needs `y`."""
        return self.posterior(x, self._given(y))[0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of p(x | z) `(n, C, H, W)` in the spec's range; a conditional model needs `y`."""
        return self.decoder(z, *(() if self._given(y) is None else (y,)))

    def _given(self, y: Tensor | None) -> Tensor | None:
        if self.classes and y is None:
            raise CallError("this VAE is conditional: give the classes too")
        return y if self.classes else None

    @property
    def _draws(self) -> tuple[int, ...]:
        """Shape of the noise that `log_prob` takes for each x."""
        return self.latent.shape if self._bound == 1 else (self._bound, *self.latent.shape)

    def graphs(self) -> dict[str, Graph]:
        asked = (Port("class", (1,), "int64", high=self.classes),) if self.classes else ()
        x, z, eps = (
            Port("x", (1, *self.spec.shape)),
            Port("z", (1, *self.latent.shape)),
            Port("eps", (1, *self._draws)),
        )
        elbo = View(self, "elbo_of_draw" if self._bound == 1 else "bound_of_draws")
        return {
            "decoder": Graph("decoder", self.decoder, (z, *asked)),
            "encoder": Graph("encoder", View(self, "encode"), (x, *asked), ("mean",)),
            "elbo": Graph("likelihood", elbo, (eps, x, *asked), ("elbo",)),
            **self.coding_graphs(),
        }

    def programs(self) -> dict[str, Program]:
        """`sample`; `encode` gives the posterior's mean, `decode` the mean of p(x | z), `log_prob` the
        evidence lower bound at one draw, or by as many samples as the config says, in nats."""
        asked = tuple(self.conditions)
        z = self.latent
        nats = ValueSpec("vector", (), "", Real(-math.inf, math.inf))
        image = {"x": ConditionSpec(self.spec.x), **self.conditions}
        return {
            **super().programs(),
            "encode": Program(OneShot(graph="encoder", conditions=("x", *asked)), image, z),
            "decode": Program(
                OneShot(graph="decoder", conditions=("z", *asked)),
                {"z": ConditionSpec(z), **self.conditions},
                self.spec.x,
            ),
            "log_prob": Program(OneShot(self._draws, "elbo", ("x", *asked)), image, nats),
            **self.coding_programs(),
        }

    def coded_groups(self) -> tuple[int, ...]:
        return (self.latent.size,)

    def standard_posterior(self, u: Tensor, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """q(z | x) itself, the prior being standard normal."""
        mean, log_var = self.posterior(x, y)
        return mean.flatten(1), 0.5 * log_var.flatten(1)

    def level_weights(self, u: Tensor, y: Tensor | None = None) -> Tensor:
        z = u.reshape(-1, *self.latent.shape)
        raw = self.decoder.raw(z, *(() if y is None else (y,))).float()  # type: ignore[operator]
        low, high = (0.0, 1.0) if self.likelihood.unit else (self.spec.low, self.spec.high)
        values = torch.linspace(low, high, self.spec.x.levels, device=raw.device)
        return self.likelihood.levels(values, raw, self.log_scale.float()).flatten(1, 3)

    def sampler(self) -> OneShot:
        c, asked = self.config, tuple(self.conditions)
        return OneShot(self.latent.shape, "decoder", asked).override(**c.sampling)
