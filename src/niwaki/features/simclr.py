"""SimCLR: Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from niwaki.core.contract import Batch, Context, DataSpec, Phase
from niwaki.features.encoders import ContrastiveConfig, Encoder, projector, register_encoder
from niwaki.nn.augment.views import augment
from niwaki.nn.contrastive import nt_xent
from niwaki.nn.layers.shrinking import backbone

__all__ = ["SimClr", "SimClrConfig"]


class SimClrConfig(ContrastiveConfig):
    pass


@register_encoder("simclr")
class SimClr(Encoder):
    """Learns that two random views of one sample belong together, against all other views of the batch.

    The negatives come from the micro-batch of one device: `train.accumulate` and `train.devices` leave fewer.
    """

    Config = SimClrConfig

    def __init__(self, config: SimClrConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.dim = config.features
        self.backbone = backbone(spec, config.width, config.features)
        self.projector = projector(config.features, config.projection)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("contrast", ("backbone", "projector")),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        views = augment(torch.cat([batch.x, batch.x]), self.spec, self.config.augment, ctx.rng)
        a, b = self.projector(self.backbone(self.units(views))).chunk(2)
        return {"nt_xent": nt_xent(a, b, self.config.temperature)}

    def features(self, x: Tensor) -> Tensor:
        """(n, *shape) → (n, dim), of length √dim: the loss looks at directions alone, and blur and noise move
        these at least as clearly as the raw ones (digits)."""
        return F.normalize(self.backbone(self.units(x)), dim=1) * math.sqrt(self.dim)
