"""A coupling flow (Dinh et al. 2017): two views of the same weights, inverse of each other, pruned or not."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, DataSpec, GenerativeModel, Graph, Phase, Port, View
from niwaki.models.registry import ModelConfig, register
from niwaki_runtime.samplers import OneShot, Sampler


class Config(ModelConfig):
    width: int = 32
    layers: int = 4


class Coupling(nn.Module):
    def __init__(self, d: int, w: int, swap: bool) -> None:
        super().__init__()
        self.half, self.swap = d // 2, swap
        self.conditioner = nn.Sequential(
            nn.Linear(self.half, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU(), nn.Linear(w, 2 * (d - self.half))
        )

    def parts(self, a: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.conditioner(a).chunk(2, 1)
        return torch.tanh(s), t

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x → z and log|det ∂z/∂x| (n,)."""
        x = x.flip(1) if self.swap else x
        a, b = x[:, : self.half], x[:, self.half :]
        s, t = self.parts(a)
        return torch.cat([a, b * s.exp() + t], 1), s.sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        a, b = z[:, : self.half], z[:, self.half :]
        s, t = self.parts(a)
        x = torch.cat([a, (b - t) * (-s).exp()], 1)
        return x.flip(1) if self.swap else x


@register("contract-coupling-flow")
class CouplingFlow(GenerativeModel):
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec, self.conditions = config, spec, {}
        self.flow = nn.ModuleList(Coupling(spec.size, config.width, i % 2 == 1) for i in range(config.layers))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("nll", ("flow",)),)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(x.shape[0])
        for layer in self.flow:
            x, logdet = layer(x)
            total = total + logdet
        return x, total

    def invert(self, z: Tensor) -> Tensor:
        for layer in reversed(self.flow):
            z = layer.inverse(z)
        return z

    def log_prob(self, x: Tensor) -> Tensor:
        z, logdet = self.encode(x)
        return -0.5 * z.square().sum(1) - 0.5 * self.spec.size * math.log(2 * math.pi) + logdet

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {"nll": -self.log_prob(batch.x).mean()}

    def graphs(self) -> dict[str, Graph]:
        d = self.spec.size
        return {
            "inverse": Graph("generator", View(self, "invert"), (Port("z", (1, d)),)),
            "forward": Graph("encoder", View(self, "encode"), (Port("x", (1, d)),), ("z", "logdet")),
        }

    def sampler(self) -> Sampler:
        return OneShot(latent=(self.spec.size,), graph="inverse")
