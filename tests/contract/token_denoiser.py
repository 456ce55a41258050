"""A denoiser conditioned on tokens (the digit's name in letters), with guidance and an encoder of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
    Tokens,
    ValueSpec,
)
from niwaki.models.registry import ModelConfig, register
from niwaki_runtime.process.schedules import alpha_bars
from niwaki_runtime.samplers import Diffusion, Sampler

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = "_" + "".join(
    sorted(set("".join(NAMES)))
)  # 0 is padding; the null token comes after the last letter
NULL = len(LETTERS)


def spelled(name: str) -> list[int]:
    return [LETTERS.index(c) for c in name.ljust(5, "_")]


class Config(ModelConfig):
    width: int = 32
    steps: int = 5


class TextEncoder(nn.Module):
    def __init__(self, w: int) -> None:
        super().__init__()
        self.embed, self.place, self.mix = nn.Embedding(NULL + 1, w), nn.Embedding(5, w), nn.Linear(w, w)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mix(F.silu(self.embed(tokens) * self.place.weight).mean(1))


class Denoiser(nn.Module):
    def __init__(self, c: int, w: int) -> None:
        super().__init__()
        self.time, self.context = nn.Linear(2, w), nn.Linear(w, w)
        self.enter, self.down = nn.Conv2d(c, w, 3, padding=1), nn.Conv2d(w, w, 3, 2, 1)
        self.norm, self.mid = nn.GroupNorm(4, w), nn.Conv2d(w, w, 3, padding=1)
        self.leave = nn.Conv2d(2 * w, c, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        clock = torch.stack([(t / 159.0).cos(), (t / 159.0).sin()], 1)
        h = self.enter(x)
        d = self.down(F.silu(h)) + (self.time(clock) + self.context(context))[:, :, None, None]
        d = F.interpolate(self.mid(F.silu(self.norm(d))), scale_factor=2.0)
        return self.leave(F.silu(torch.cat([h, d], 1)))


@register("contract-token-denoiser")
class TokenDenoiser(GenerativeModel):
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.conditions = {"tokens": ConditionSpec(ValueSpec("text", (5,), values=Tokens(NULL)), null=NULL)}
        self.encoder = TextEncoder(config.width)
        self.denoiser = Denoiser(spec.shape[0], config.width)
        bars = torch.tensor(alpha_bars("cosine", 1000))
        self.register_buffer("alpha", bars.sqrt())
        self.register_buffer("sigma", (1 - bars).sqrt())
        self.register_buffer("names", torch.tensor([spelled(n) for n in NAMES]))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("denoise", ("encoder", "denoiser")),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        x, n = batch.x, len(batch)
        t = torch.randint(1000, (n,), generator=ctx.rng, device=x.device)
        a, s = self.alpha[t, None, None, None], self.sigma[t, None, None, None]
        noise = torch.randn(x.shape, generator=ctx.rng, device=x.device)
        dropped = torch.rand(n, 1, generator=ctx.rng, device=x.device) < 0.1  # one coin per sample
        tokens = torch.where(dropped, NULL, self.names[batch["class"]])
        v = self.denoiser(a * x + s * noise, t.float(), self.encoder(tokens))
        return {"v": (v - (a * noise - s * x)).square().mean()}

    def graphs(self) -> dict[str, Graph]:
        w = self.encoder.mix.out_features
        return {
            "encoder": Graph(
                "encoder", self.encoder, (Port("tokens", (1, 5), "int64", high=NULL + 1),), ("context",)
            ),
            "denoiser": Graph(
                "denoiser",
                self.denoiser,
                (Port("x", (1, *self.spec.shape)), Port("t", (1,)), Port("context", (1, w))),
            ),
        }

    def sampler(self) -> Sampler:
        return Diffusion(
            shape=self.spec.shape,
            steps=self.config.steps,
            conditions=("tokens",),
            null={"tokens": NULL},
            encoders={"tokens": "encoder"},
            guidance=2.0,
        )
