"""A GAN that grows from 4×4 to 8×8 with fade-in (Karras et al. 2018): all sizes exist from the start."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, DataSpec, GenerativeModel, Graph, Phase, Port
from niwaki.models.registry import ModelConfig, register
from niwaki_runtime.samplers import OneShot, Sampler


class Config(ModelConfig):
    width: int = 16
    latent: int = 8


class Generator(nn.Module):
    def __init__(self, latent: int, w: int) -> None:
        super().__init__()
        self.start = nn.Linear(latent, w * 16)
        self.body = nn.Conv2d(w, w, 3, padding=1)
        self.grow = nn.Conv2d(w, w, 3, padding=1)
        self.to_low, self.to_high = nn.Conv2d(w, 1, 1), nn.Conv2d(w, 1, 1)
        self.register_buffer("alpha", torch.zeros(()))  # 0: only 4×4 is used; 1: only 8×8

    def forward(self, z: Tensor) -> Tensor:
        h = F.relu(self.start(z)).unflatten(1, (-1, 4, 4))
        h = F.relu(self.body(h))
        low = F.interpolate(self.to_low(h), scale_factor=2.0)
        high = self.to_high(F.relu(self.grow(F.interpolate(h, scale_factor=2.0))))
        return torch.tanh(torch.lerp(low, high, self.alpha.to(low.dtype)))


@register("contract-growing")
class Growing(GenerativeModel):
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec, self.conditions = config, spec, {}
        w = config.width
        self.generator = Generator(config.latent, w)
        self.critic = nn.Sequential(
            nn.Conv2d(1, w, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(w, w, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(w * 4, 1),
        )

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("critic", ("critic",)), Phase("generator", ("generator",)))

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        z = torch.randn(len(batch), self.config.latent, generator=ctx.rng, device=batch.x.device)
        fake, real = self.generator(z), batch.x
        if ctx.stage == "low":  # the critic sees what 4×4 can show
            real = F.interpolate(F.avg_pool2d(real, 2), scale_factor=2.0)
        if phase == "generator":
            return {"generator": F.softplus(-self.critic(fake)).mean()}
        return {
            "critic": F.softplus(self.critic(fake.detach())).mean() + F.softplus(-self.critic(real)).mean()
        }

    def after_step(self, ctx: Context) -> None:
        self.generator.alpha.fill_(0.0 if ctx.stage == "low" else min(1.0, 2.0 * ctx.progress))

    def graphs(self) -> dict[str, Graph]:
        return {"generator": Graph("generator", self.generator, (Port("z", (1, self.config.latent)),))}

    def sampler(self) -> Sampler:
        return OneShot(latent=(self.config.latent,))
