"""The variational autoencoder: Kingma & Welling 2014; β: Higgins et al. 2017; classes: Sohn et al. 2015."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Port,
    Program,
    Real,
    ValueSpec,
    View,
)
from niwaki.models.registry import ModelConfig, register
from niwaki.models.vae.likelihoods import LIKELIHOODS, kl_to_standard
from niwaki.models.vae.networks import Decoder, Encoder
from niwaki.nn.layers.images import class_condition, image_shape, labels_of, to_signed, to_unit
from niwaki_runtime import noise
from niwaki_runtime.samplers import OneShot

__all__ = ["Vae", "VaeConfig"]


class VaeConfig(ModelConfig):
    """
    latent:      length of z
    width:       channels at full size; doubled at every halving
    hidden:      width of the encoder's last hidden layer
    embedding:   length of a class embedding
    upsampling:  `nearest` (+ convolution) or `transposed`
    likelihood:  `bernoulli` (grey values are probabilities) or `gaussian` (one learned standard deviation)
    beta:        weight of the KL term; 1 is the ELBO
    warmup:      share of training over which β rises from 0
    """

    latent: int = Field(16, ge=1)
    width: int = Field(32, ge=1)
    hidden: int = Field(256, ge=1)
    embedding: int = Field(16, ge=1)
    upsampling: Literal["nearest", "transposed"] = "nearest"
    likelihood: Literal["bernoulli", "gaussian"] = "gaussian"
    beta: float = Field(1.0, ge=0)
    warmup: float = Field(0.0, ge=0, le=1)


@register("vae")
class Vae(GenerativeModel):
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
        mean, log_var = self.posterior(batch.x, y)
        eps = torch.randn(mean.shape, generator=ctx.rng, device=mean.device)
        reconstruction = -self._log_likelihood(batch.x, mean + (0.5 * log_var).exp() * eps, y).mean()
        kl = kl_to_standard(mean, log_var).flatten(1).sum(1).mean()
        ramp = min(1.0, ctx.progress / self.config.warmup) if self.config.warmup else 1.0
        ctx.log(elbo=-(reconstruction + kl), nats_of_latent=kl)
        size = self.spec.size  # per value, so that the step size does not depend on the image's size
        return {"reconstruction": reconstruction / size, "kl": self.config.beta * ramp * kl / size}

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), float32, each `(n, *latent)`."""
        mean, log_var = self.encoder(to_signed(x, self.spec), *(() if y is None else (y,)))
        return mean.float(), log_var.float()

    def _log_likelihood(self, x: Tensor, z: Tensor, y: Tensor | None) -> Tensor:
        """log p(x | z) in nats `(n,)`."""
        raw = self.decoder.raw(z, *(() if y is None else (y,))).float()  # type: ignore[operator]
        x = to_unit(x, self.spec) if self.likelihood.unit else x
        return self.likelihood.log_prob(x.float(), raw, self.log_scale.float())

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

    def log_prob(self, x: Tensor, y: Tensor | None = None, *, draws: int = 8, seed: int = 0) -> Tensor:
        """A lower bound of log p(x) in nats `(n,)`, of log p(x | y) given classes `y` `(n,)`.

        Gaussian: log-density per sample, values in the spec's range. Bernoulli: the bound is on the expected
        log-probability of the image binarized with its grey values. A conditional model without `y` sums over
        equally likely classes: log p(x) ≥ log Σ_y e^ELBO(x, y) / K.
        """
        if not self.classes or y is not None:
            return self.elbo(x, y, draws=draws, seed=seed)
        each = [
            self.elbo(x, torch.full((x.shape[0],), c, device=x.device), draws=draws, seed=seed)
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

    def graphs(self) -> dict[str, Graph]:
        asked = (Port("class", (1,), "int64", high=self.classes),) if self.classes else ()
        x, z, eps = (
            Port("x", (1, *self.spec.shape)),
            *(Port(k, (1, *self.latent.shape)) for k in ("z", "eps")),
        )
        return {
            "decoder": Graph("decoder", self.decoder, (z, *asked)),
            "encoder": Graph("encoder", View(self, "encode"), (x, *asked), ("mean",)),
            "elbo": Graph("likelihood", View(self, "elbo_of_draw"), (eps, x, *asked), ("elbo",)),
        }

    def programs(self) -> dict[str, Program]:
        """`sample`; `encode` gives the posterior's mean, `decode` the mean of p(x | z), `log_prob` the
        evidence lower bound at one draw, in nats."""
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
            "log_prob": Program(OneShot(z.shape, "elbo", ("x", *asked)), image, nats),
        }

    def sampler(self) -> OneShot:
        c, asked = self.config, tuple(self.conditions)
        return OneShot(self.latent.shape, "decoder", asked).override(**c.sampling)
