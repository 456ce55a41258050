"""A GAN whose generator is a transformer: Jiang, Chang & Wang 2021, TransGAN."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from niwaki.core.contract import CallError, DataSpec
from niwaki.models.gan.image_gan import ImageGan, ImageGanConfig
from niwaki.models.gan.networks import discriminators, widths
from niwaki.models.gan.transformer_networks import PatchDiscriminator, TransformerGenerator
from niwaki.models.registry import register
from niwaki.nn.layers.blocks import pyramid
from niwaki.nn.layers.images import image_shape

__all__ = ["TransformerGan", "TransformerGanConfig"]


class TransformerGanConfig(ImageGanConfig):
    """
    latent:       length of z
    embedding:    length of a class embedding in the generator
    patch:        edge in pixels of what one token becomes
    width:        channels of a token at the finest grid; doubled at every halving, up to `max_width`
    blocks:       transformer blocks at each size of the grid
    heads:        of attention
    ratio:        hidden channels of a block's MLP, as a multiple of its channels
    critic:       `convolutional`, that of `dcgan`, or `patch`, which judges every patch by itself
    critic_width: channels of the discriminator at full size
    features:     length of its feature vector φ(x) (`convolutional`)
    deviation:    group size of the minibatch standard deviation, 0 for none (`convolutional`)
    """

    patch: int = Field(2, ge=1)
    width: int = Field(64, ge=1)
    blocks: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    ratio: int = Field(2, ge=1)
    critic: Literal["convolutional", "patch"] = "convolutional"
    critic_width: int = Field(64, ge=1)


@register("transformer-gan")
class TransformerGan(ImageGan):
    """A generator whose tokens are patches, against convolutions.

    config: TransformerGanConfig
    spec:   images `(C, H, W)` of at least 4×4, whose height and width `patch` divides
    """

    Config = TransformerGanConfig
    config: TransformerGanConfig

    def __init__(self, config: TransformerGanConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        c, shape = config, image_shape(spec, self.name)
        for channels in widths(c.width, len(pyramid(shape[1] // c.patch, shape[2] // c.patch)), c.max_width):
            if channels % c.heads:
                raise CallError(
                    f"model.heads of '{self.name}': {channels} channels are no multiple of {c.heads}"
                )
        generator = TransformerGenerator(
            shape,
            **self.generator_settings(),
            blocks=c.blocks,
            heads=c.heads,
            ratio=c.ratio,
            patch=c.patch,
        )
        self.play(generator, self._critic_network(shape), latent=c.latent)

    def _critic_network(self, shape: tuple[int, int, int]) -> nn.Module:
        c = self.config
        if c.critic == "patch":
            bias = self.objective.levelled
            return PatchDiscriminator(shape, classes=self.classes, width=c.critic_width, bias=bias)
        return discriminators(shape, 1, **self.critic_settings(c.critic_width), kernels=0)
