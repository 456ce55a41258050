"""Progressive growing (Karras, Aila, Laine & Lehtinen 2018): small images first, then twice as large ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from niwaki.core.contract import Batch, Context, DataSpec, Phase
from niwaki.models.gan.config import Objectives
from niwaki.models.gan.growing_networks import GrowingDiscriminator, GrowingGenerator, doubled
from niwaki.models.gan.image_gan import ImageGan, ImageGanConfig
from niwaki.models.registry import register
from niwaki.nn.layers.blocks import pyramid
from niwaki.nn.layers.images import image_shape

__all__ = ["ProgressiveGan", "ProgressiveGanConfig"]


class ProgressiveGanConfig(ImageGanConfig):
    """
    latent:    length of z
    embedding: length of a class embedding in the generator
    width:     channels at full size; doubled at every halving, up to `max_width`
    max_width: most channels
    features:  length of the discriminator's feature vector φ(x)
    deviation: group size of the minibatch standard deviation, 0 for none
    fade:      share of a stage in which its size comes in, in a straight line
    """

    objective: Objectives = "wasserstein"
    r1: float = Field(0.0, ge=0)
    gradient_penalty: float = Field(10.0, ge=0)
    drift: float = Field(1e-3, ge=0)
    fade: float = Field(0.5, gt=0, le=1)


@register("progressive-gan")
class ProgressiveGan(ImageGan):
    """Trained in stages that are called by their size, `4x4`, `8x8` …: both networks gain a block in each,
    which comes in gradually. What is sampled is the whole network: before the last stage it says little.

    Where both are follows from the stage and its progress alone, so a resumed training goes on where it was.

    config: ProgressiveGanConfig
    spec:   images `(C, H, W)` of at least 4×4; halved while they are even and no side is below 4
    """

    Config = ProgressiveGanConfig
    config: ProgressiveGanConfig
    generator: GrowingGenerator
    discriminator: GrowingDiscriminator

    def __init__(self, config: ProgressiveGanConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        shape = image_shape(spec, self.name)
        self.sizes = tuple(f"{h}x{w}" for h, w in pyramid(shape[1], shape[2]))
        generator = GrowingGenerator(shape, **self.generator_settings())
        discriminator = GrowingDiscriminator(shape, **self.critic_settings())
        self.play(generator, discriminator, latent=config.latent)

    def phases(self) -> tuple[Phase, ...]:
        return tuple(replace(phase, stage=self.sizes) for phase in super().phases())

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        level, alpha = self.grown(ctx)
        with self._at(level, alpha):
            return super().loss(phase, batch.replaced(x=self.sized(batch.x, level, alpha)), ctx)

    def grown(self, ctx: Context) -> tuple[int, float]:
        """Which size images have, 0 the coarsest, and its share in them. A stage that is none of its own (a
        fine-tuning) trains the whole."""
        if ctx.stage not in self.sizes:
            return len(self.sizes) - 1, 1.0
        level = self.sizes.index(ctx.stage)
        return level, min(1.0, ctx.progress / self.config.fade) if level else 1.0

    def sized(self, x: Tensor, level: int, alpha: float = 1.0) -> Tensor:
        """Samples of full size as they are at a level: averaged over pixels; while it comes in, details fade
        in as those of made samples do."""
        factor = 2 ** (len(self.sizes) - 1 - level)
        x = F.avg_pool2d(x, factor) if factor > 1 else x
        return x if alpha == 1 else torch.lerp(doubled(F.avg_pool2d(x, 2)), x, alpha)

    @contextmanager
    def _at(self, level: int, alpha: float) -> Iterator[None]:
        """Inside the block both networks are of that level; otherwise they are whole."""
        networks = (self.generator, self.discriminator.features)
        for network in networks:
            network.level, network.alpha = level, alpha
        try:
            yield
        finally:
            for network in networks:
                network.level, network.alpha = len(self.sizes) - 1, 1.0
