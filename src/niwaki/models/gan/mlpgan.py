"""The first GAN: two multilayer perceptrons (Goodfellow et al. 2014), for samples of any shape."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import CallError, DataSpec
from niwaki.models.gan.adversarial import AdversarialModel
from niwaki.models.gan.config import AdversarialConfig
from niwaki.models.gan.networks import Projection, initialize
from niwaki.models.registry import register
from niwaki.nn.layers.images import Squash

__all__ = ["MlpGan", "MlpGanConfig"]


class MlpGanConfig(AdversarialConfig):
    """
    latent:    length of z
    embedding: length of a class embedding in the generator
    width:     units of each hidden layer, of both networks
    depth:     hidden layers of both networks
    """

    latent: int = Field(32, ge=1)
    embedding: int = Field(16, ge=1)
    width: int = Field(256, ge=1)
    depth: int = Field(3, ge=1)


class _Generator(nn.Module):
    """z `(n, latent)`, classes `(n,)` → `(n, *shape)`, within bounds where the data have any."""

    def __init__(self, config: MlpGanConfig, spec: DataSpec, classes: int) -> None:
        super().__init__()
        self.shape = tuple(spec.shape)
        self.embed = nn.Embedding(classes, config.embedding) if classes else None
        inputs = config.latent + (config.embedding if classes else 0)
        layers: list[nn.Module] = []
        for _ in range(config.depth):
            layers += [nn.Linear(inputs, config.width), nn.BatchNorm1d(config.width), nn.ReLU()]
            inputs = config.width
        self.hidden = nn.Sequential(*layers)
        bounded = math.isfinite(spec.high - spec.low)
        self.output = nn.Linear(inputs, spec.size)
        self.squash = Squash(spec.low, spec.high) if bounded else nn.Identity()
        self.apply(initialize)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(y)], dim=1)
        return self.squash(self.output(self.hidden(z))).unflatten(1, self.shape)


class _Discriminator(Projection):
    """Of samples of any shape, flattened."""

    def __init__(self, config: MlpGanConfig, spec: DataSpec, classes: int, *, bias: bool) -> None:
        super().__init__()
        inputs = spec.size
        layers: list[nn.Module] = [nn.Flatten()]
        for _ in range(config.depth):
            layers += [nn.Linear(inputs, config.width), nn.LeakyReLU(0.2)]
            inputs = config.width
        self.features = nn.Sequential(*layers)
        self.logit = nn.Linear(inputs, 1, bias=bias)
        self.embed = nn.Embedding(classes, inputs) if classes else None
        self.apply(initialize)
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=inputs**-0.5)


@register("mlp-gan")
class MlpGan(AdversarialModel):
    """A generator and a discriminator without convolutions.

    config: MlpGanConfig
    spec:   amounts of any shape: images, vectors, series
    """

    Config = MlpGanConfig
    small_matrices = True
    config: MlpGanConfig

    def __init__(self, config: MlpGanConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        if spec.is_tokens:
            raise CallError(f"'{self.name}' makes amounts; this data set holds tokens")
        critic = _Discriminator(config, spec, self.classes, bias=self.objective.levelled)
        self.play(_Generator(config, spec, self.classes), critic, latent=config.latent)
