"""StyleGAN2 (Karras, Laine, Aittala, Hellsten, Lehtinen & Aila 2020), class-conditional."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, DataSpec, Graph, Phase, Port
from niwaki.models.gan.image_gan import ImageGan, ImageGanConfig
from niwaki.models.gan.path_length import path_lengths
from niwaki.models.gan.style_networks import Mapping, StyleDiscriminator, Synthesis
from niwaki.models.gan.styles import MeanStyle, crossover
from niwaki.models.registry import register
from niwaki.nn.layers.images import image_shape
from niwaki_runtime.samplers import StyleBased

__all__ = ["StyleGan2", "StyleGan2Config"]

_PATH_DECAY = 0.01
"""By how much the mean path length follows each batch."""


class StyleGan2Config(ImageGanConfig):
    """
    latent:       length of z
    style:        length of w
    layers:       of the mapping network
    mapping_rate: by which the mapping network learns faster than the rest (0.01 in Karras et al. 2019)
    embedding:    length of a class embedding in the mapping network
    start:        what the synthesis begins with: `constant`, a learnt one, or `style`, a linear map of w, by
                  which many classes are learnt in fewer steps
    width:        channels at full size; doubled at every halving, up to `max_width`
    max_width:    most channels
    critic_width: channels of the discriminator at full size; 0 is `width`
    features:     length of the discriminator's feature vector φ(x)
    deviation:    group size of the minibatch standard deviation, 0 for none
    mixing:       share of samples in training that have two styles
    path_length:  weight of E (‖Jᵀy‖ − a)², a the mean path length so far; 0 leaves it out
    path_every:   it is computed in every so many steps, on half of a batch, and weighted by as much
    """

    style: int = Field(128, ge=1)
    layers: int = Field(4, ge=1)
    mapping_rate: float = Field(0.01, gt=0)
    embedding: int = Field(64, ge=1)
    start: Literal["constant", "style"] = "constant"
    critic_width: int = Field(0, ge=0)
    mixing: float = Field(0.9, ge=0, le=1)
    path_length: float = Field(2.0, ge=0)
    path_every: int = Field(4, ge=1)


class StyleGenerator(nn.Module):
    """z `(n, latent)`, noise `(n, k)`, classes `(n,)` where there are any, ψ `(n, 1)` → images."""

    def __init__(self, mapping: Mapping, synthesis: Synthesis, mean: MeanStyle) -> None:
        super().__init__()
        self.mapping, self.synthesis, self.mean = mapping, synthesis, mean

    def forward(self, z: Tensor, noise: Tensor, *rest: Tensor) -> Tensor:
        y, psi = (rest[0] if len(rest) > 1 else None), rest[-1]
        w = self.mapping(z, y)
        w = w + (1 - psi) * (self.mean(y) - w)  # w̄ + ψ (w − w̄), and w itself at ψ = 1
        return self.synthesis([w] * self.synthesis.layers, noise)


@register("stylegan2")
class StyleGan2(ImageGan):
    """Styles from a mapping network scale the channels of every convolution; noise in every layer.

    config: StyleGan2Config
    spec:   images `(C, H, W)` of at least 4×4
    """

    Config = StyleGan2Config
    config: StyleGan2Config
    generator: StyleGenerator
    mean_path: Tensor

    def __init__(self, config: StyleGan2Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        shape, c = image_shape(spec, self.name), config
        generator = StyleGenerator(
            Mapping(
                c.latent,
                c.style,
                classes=self.classes,
                embedding=c.embedding,
                layers=c.layers,
                rate=c.mapping_rate,
            ),
            Synthesis(shape, c.style, constant=c.start == "constant", **self.pyramid_settings()),
            MeanStyle(self.classes, c.style),
        )
        discriminator = StyleDiscriminator(shape, **self.critic_settings(c.critic_width))
        self.register_buffer("mean_path", torch.zeros(()))
        self.play(generator, discriminator, latent=c.latent)

    def phases(self) -> tuple[Phase, ...]:
        phases = super().phases()
        if not self.config.path_length:
            return phases
        path = Phase(
            "path_length",
            ("generator",),
            every=self.config.path_every,
            fresh_batch=False,
            optimizer="generator",
            double_backward=True,
            validate=False,
        )
        return (*phases, path)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return self._path(batch, ctx) if phase == "path_length" else super().loss(phase, batch, ctx)

    def generate(self, z: Tensor, y: Tensor | None, ctx: Context) -> Tensor:
        return self._images(self._styles(z, y, ctx), ctx)

    def _styles(self, z: Tensor, y: Tensor | None, ctx: Context) -> Tensor:
        """Styles of latents, some with another's from some layer on: `(n, layers, style)`."""
        generator = self.generator
        w = generator.mapping(z, y)
        if self.training:
            generator.mean.follow(w, y)
        layers = generator.synthesis.layers
        if not self.config.mixing:
            return w[:, None].expand(-1, layers, -1)
        other = generator.mapping(torch.randn(z.shape, generator=ctx.rng, device=z.device), y)
        return crossover(w, other, layers, self.config.mixing, ctx.rng)

    def _images(self, styles: Tensor, ctx: Context) -> Tensor:
        synthesis = self.generator.synthesis
        noise = torch.randn(len(styles), synthesis.noise, generator=ctx.rng, device=styles.device)
        return synthesis(styles.unbind(1), noise)

    def _path(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """In float32, as every penalty of a gradient; on half of the batch, which is enough for a mean."""
        with torch.autocast(batch.x.device.type, enabled=False):
            half = batch.map(lambda t: t[: (len(t) + 1) // 2])
            styles = self._styles(self._latents(half, ctx), self._labels(half), ctx)
            images = self._images(styles, ctx)
            direction = torch.randn(images.shape, generator=ctx.rng, device=images.device)
            lengths = path_lengths(images, styles, direction)
        mean = torch.lerp(self.mean_path, lengths.detach().mean(), _PATH_DECAY)
        if self.training:
            self.mean_path.copy_(mean)
        ctx.log(path_length=lengths.mean())
        weight = self.config.path_length * self.config.path_every
        return {"path_length": weight * (lengths - mean).square().mean()}

    def graphs(self) -> dict[str, Graph]:
        inputs = [Port("z", (1, self.latent)), Port("noise", (1, self.generator.synthesis.noise))]
        if self.classes:
            inputs.append(Port("class", (1,), "int64", high=self.classes))
        inputs.append(Port("truncation", (1, 1), usual=1.0))
        return {"generator": Graph("generator", self.generator, tuple(inputs))}

    def sampler(self) -> StyleBased:
        noise, named = self.generator.synthesis.noise, tuple(self.conditions)
        return StyleBased(self.latent, noise, conditions=named).override(**self.config.sampling)
