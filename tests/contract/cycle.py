"""A two-domain cycle model (Zhu et al. 2017) with an image pool: state beside weights, no noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Port,
)
from niwaki.models.registry import ModelConfig, register
from niwaki_runtime.samplers import OneShot, Sampler


class Config(ModelConfig):
    width: int = 16
    pool: int = 32


def translator(c: int, w: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(c, w, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(w, w, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(w, c, 1),
        nn.Tanh(),
    )


@register("contract-cycle")
class Cycle(GenerativeModel):
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.conditions = {"source": ConditionSpec(spec.x)}
        c, w = spec.shape[0], config.width
        self.ab, self.ba = translator(c, w), translator(c, w)
        self.critic_a = nn.Sequential(nn.Conv2d(c, w, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(w, 1, 3, 1, 1))
        self.critic_b = nn.Sequential(nn.Conv2d(c, w, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(w, 1, 3, 1, 1))
        # What training keeps besides weights is a persistent buffer: it is checkpointed by being one.
        self.register_buffer("pool", torch.zeros(config.pool, *spec.shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("translate", ("ab", "ba")),
            Phase("criticise", ("critic_a", "critic_b"), fresh_batch=False),
        )

    def _pooled(self, fake: Tensor, rng: torch.Generator) -> Tensor:
        """Half of the fakes are taken from the past (Shrivastava et al. 2017). No host synchronisation."""
        n, size = len(fake), self.config.pool
        past = torch.rand(n, 1, 1, 1, generator=rng, device=fake.device) < 0.5
        slot = torch.randint(size, (n,), generator=rng, device=fake.device)
        mixed = torch.where(past & (self.filled >= size), self.pool[slot], fake)
        ring = (self.filled + torch.arange(n, device=fake.device)) % size  # the newest replace the oldest
        self.pool.index_copy_(0, ring, fake.to(self.pool.dtype))
        self.filled += n
        return mixed

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        a, b = batch.x, batch["x_b"]
        fake_b, fake_a = self.ab(a), self.ba(b)
        if phase == "translate":
            return {
                "adversarial": (self.critic_b(fake_b) - 1).square().mean()
                + (self.critic_a(fake_a) - 1).square().mean(),
                "cycle": 10 * ((self.ba(fake_b) - a).abs().mean() + (self.ab(fake_a) - b).abs().mean()),
            }
        pooled = self._pooled(fake_b.detach(), ctx.rng)
        real = (self.critic_a(a) - 1).square().mean() + (self.critic_b(b) - 1).square().mean()
        return {
            "real": real,
            "fake": self.critic_a(fake_a.detach()).square().mean() + self.critic_b(pooled).square().mean(),
        }

    def graphs(self) -> dict[str, Graph]:
        port = Port("source", (1, *self.spec.shape))
        return {"ab": Graph("translator", self.ab, (port,)), "ba": Graph("translator", self.ba, (port,))}

    def sampler(self) -> Sampler:
        return OneShot(latent=None, graph="ab", conditions=("source",))
