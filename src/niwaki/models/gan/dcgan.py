"""DCGAN, class-conditional: Radford, Metz & Chintala 2016, with a projection discriminator and lazy R1."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from niwaki.core.contract import DataSpec
from niwaki.models.gan.image_gan import ImageGan, ImageGanConfig
from niwaki.models.gan.networks import Generator, discriminators
from niwaki.models.registry import register, register_preset
from niwaki.nn.layers.images import image_shape

__all__ = ["Dcgan", "DcganConfig"]


class DcganConfig(ImageGanConfig):
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
    kernels:       of minibatch discrimination, 0 for none
    scales:        discriminators, each of images half as large as those of the one before
    """

    width: int = Field(64, ge=1)
    max_width: int = Field(512, ge=1)
    refine: int = Field(0, ge=0)
    upsampling: Literal["nearest", "transposed"] = "nearest"
    norm: Literal["batch", "none"] = "batch"
    critic_width: int = Field(0, ge=0)
    kernels: int = Field(0, ge=0)
    scales: int = Field(1, ge=1)


@register("dcgan")
class Dcgan(ImageGan):
    """A generator that makes an image in one call, trained against a discriminator.

    config: DcganConfig
    spec:   images `(C, H, W)` of at least 4×4; made for 8×8, 32×32 and 64×64. Any other size is halved while
            it is even, and the generator starts from there
    """

    Config = DcganConfig
    config: DcganConfig

    def __init__(self, config: DcganConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        shape = image_shape(spec, self.name)
        generator = Generator(
            shape,
            **self.generator_settings(),
            refine=config.refine,
            upsampling=config.upsampling,
            norm=config.norm,
        )
        discriminator = discriminators(
            shape,
            config.scales,
            **self.critic_settings(config.critic_width),
            kernels=config.kernels,
        )
        self.play(generator, discriminator, latent=config.latent)


register_preset(
    "wgan",
    "dcgan",
    "Wasserstein GAN (Arjovsky et al. 2017): five critic steps, clipped weights",
    objective="wasserstein",
    critic_steps=5,
    clip=0.01,
    r1=0.0,
    deviation=0,
)
register_preset(
    "wgan-gp",
    "dcgan",
    "WGAN-GP (Gulrajani et al. 2017): five critic steps, a gradient penalty per sample",
    objective="wasserstein",
    critic_steps=5,
    gradient_penalty=10.0,
    r1=0.0,
    deviation=0,
)
register_preset(
    "sngan",
    "dcgan",
    "SNGAN (Miyato et al. 2018): hinge loss, spectral normalization, projection",
    objective="hinge",
    spectral=True,
    r1=0.0,
    deviation=0,
)
register_preset(
    "lsgan",
    "dcgan",
    "LSGAN (Mao et al. 2017): least squares, with R1",
    objective="least_squares",
)
