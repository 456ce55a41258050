"""MoCo: He et al., "Momentum contrast for unsupervised visual representation learning", CVPR 2020; with the
projector of Chen et al., "Improved baselines with momentum contrastive learning", 2020."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, DataSpec, Phase
from niwaki.features.encoders import ContrastiveConfig, Encoder, projector, register_encoder
from niwaki.nn.augment.views import augment
from niwaki.nn.contrastive import info_nce
from niwaki.nn.layers.shrinking import backbone

__all__ = ["Moco", "MocoConfig"]


class MocoConfig(ContrastiveConfig):
    """
    queue:    negatives that are kept, the newest keys
    momentum: m of the key encoder. The paper's 0.999 is for 280 000 steps; a training of a thousand steps
              would end with keys of its random start
    """

    queue: int = Field(2048, ge=1)
    momentum: float = Field(0.99, ge=0, lt=1)


@register_encoder("moco")
class Moco(Encoder):
    """Learns that two random views of one sample belong together, against a queue of earlier batches' views.

    The keys come from a slow copy of the encoder. Copy, queue and the queue's end are persistent buffers or
    frozen parameters: a checkpoint holds them. With several devices the queue holds the first one's keys.
    """

    Config = MocoConfig

    queue: Tensor
    end: Tensor

    def __init__(self, config: MocoConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.dim = config.features
        self.backbone = backbone(spec, config.width, config.features)
        self.projector = projector(config.features, config.projection)
        self.key = nn.ModuleList([copy.deepcopy(self.backbone), copy.deepcopy(self.projector)])
        self.key.requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(config.queue, config.projection), dim=1))
        self.register_buffer("end", torch.zeros((), dtype=torch.long))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("contrast", ("backbone", "projector")),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        views = augment(torch.cat([batch.x, batch.x]), self.spec, self.config.augment, ctx.rng)
        one, other = self.units(views).chunk(2)
        query = F.normalize(self.projector(self.backbone(one)).float(), dim=1)
        with torch.no_grad():
            key = F.normalize(self.key[1](self.key[0](other)).float(), dim=1)
            negatives = self.queue.clone()  # the gradient needs them as they were
            self.enqueue(key)
        return {"info_nce": info_nce(query, key, negatives, self.config.temperature)}

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Put `keys` (n, projection) in the place of the oldest ones; of more than the queue holds, the
        newest."""
        size = len(self.queue)
        keys = keys[-size:]
        place = (self.end + torch.arange(len(keys), device=keys.device)) % size
        self.queue.index_copy_(0, place, keys.to(self.queue.dtype))
        self.end.copy_((self.end + len(keys)) % size)

    @torch.no_grad()
    def after_step(self, ctx: Context) -> None:
        """θ_k ← m·θ_k + (1 − m)·θ_q (equation 2)."""
        slow: list[Tensor] = list(self.key.parameters())
        fast: list[Tensor] = [*self.backbone.parameters(), *self.projector.parameters()]
        torch._foreach_mul_(slow, self.config.momentum)
        torch._foreach_add_(slow, fast, alpha=1 - self.config.momentum)

    def features(self, x: Tensor) -> Tensor:
        """(n, *shape) → (n, dim), of length √dim: the loss looks at directions alone."""
        return F.normalize(self.backbone(self.units(x)), dim=1) * math.sqrt(self.dim)
