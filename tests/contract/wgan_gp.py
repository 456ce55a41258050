"""A Wasserstein GAN with gradient penalty: critic repeats, fresh batches, double backward."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, DataSpec, GenerativeModel, Graph, Phase, Port
from niwaki.models.registry import ModelConfig, register
from niwaki_runtime.samplers import OneShot, Sampler


class Config(ModelConfig):
    width: int = 32
    latent: int = 4
    repeats: int = 5


@register("contract-wgan-gp")
class WGANGP(GenerativeModel):
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec, self.conditions = config, spec, {}
        w, d = config.width, spec.size
        self.generator = nn.Sequential(
            nn.Linear(config.latent, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU(), nn.Linear(w, d)
        )
        self.critic = nn.Sequential(nn.Linear(d, w), nn.LeakyReLU(0.2), nn.Linear(w, 1))

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("critic", ("critic",), repeats=self.config.repeats),
            Phase("generator", ("generator",), fresh_batch=False),
        )

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        z = torch.randn(len(batch), self.config.latent, generator=ctx.rng, device=batch.x.device)
        fake = self.generator(z)
        if phase == "generator":
            return {"generator": -self.critic(fake).mean()}
        real, fake = batch.x, fake.detach()
        mix = torch.rand(len(batch), 1, generator=ctx.rng, device=real.device)
        between = (mix * real + (1 - mix) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        penalty = (slope.float().norm(dim=1) - 1).square().mean()  # the norm is per sample
        return {
            "wasserstein": self.critic(fake).mean() - self.critic(real).mean(),
            "penalty": 10.0 * penalty,
        }

    def graphs(self) -> dict[str, Graph]:
        return {"generator": Graph("generator", self.generator, (Port("z", (1, self.config.latent)),))}

    def sampler(self) -> Sampler:
        return OneShot(latent=(self.config.latent,))
