"""Small models with the shapes that make pruning hard; each is a whole GenerativeModel."""

from __future__ import annotations

import math
from collections.abc import Callable

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
    View,
)
from niwaki.models.registry import ModelConfig, register
from niwaki_runtime.samplers import Autoregressive, Diffusion, OneShot, Sampler, State

IMAGE = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)


class Config(ModelConfig):
    width: int = 16
    latent: int = 12
    body: str = "plain"


class UpsampleGenerator(nn.Module):
    """Class embedding concatenated to z, Linear → reshape, Upsample + Conv + BatchNorm."""

    def __init__(self, latent: int, w: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, 8)
        self.start = nn.Linear(latent + 8, w * 4)
        self.conv1, self.norm1 = nn.Conv2d(w, w, 3, padding=1), nn.BatchNorm2d(w)
        self.conv2, self.norm2 = nn.Conv2d(w, w, 3, padding=1), nn.BatchNorm2d(w)
        self.last = nn.Conv2d(w, 1, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = F.relu(self.start(torch.cat([z, self.embed(y)], 1)).unflatten(1, (-1, 2, 2)))
        h = F.relu(self.norm1(self.conv1(F.interpolate(h, scale_factor=2.0))))
        h = F.relu(self.norm2(self.conv2(F.interpolate(h, scale_factor=2.0))))
        return torch.tanh(self.last(h))


class TransposedGenerator(nn.Module):
    """ConvTranspose throughout, bias and PReLU, without classes in it."""

    def __init__(self, latent: int, w: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, latent)
        self.body = nn.Sequential(
            nn.ConvTranspose2d(latent, 2 * w, 2), nn.BatchNorm2d(2 * w), nn.ReLU(inplace=True),
            nn.ConvTranspose2d(2 * w, w, 4, 2, 1), nn.GroupNorm(4, w), nn.PReLU(w),
            nn.ConvTranspose2d(w, 1, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.body((z * self.embed(y))[:, :, None, None])


class HardGenerator(nn.Module):
    """Residual add, skip concatenation, depthwise and grouped convolution, squeeze-excite, FiLM, a constant
    input."""

    def __init__(self, latent: int, w: int, classes: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, w, 4, 4))
        self.embed = nn.Embedding(classes, w)
        self.film = nn.Linear(latent, 2 * w)
        self.conv1 = nn.Conv2d(w, w, 3, padding=1)
        self.depth, self.point = nn.Conv2d(w, w, 3, padding=1, groups=w), nn.Conv2d(w, 2 * w, 1)
        self.grouped = nn.Conv2d(2 * w, 2 * w, 3, padding=1, groups=4)
        self.squeeze, self.excite = nn.Linear(2 * w, w // 2), nn.Linear(w // 2, 2 * w)
        self.join = nn.Conv2d(3 * w, w, 3, padding=1)
        self.flat = nn.Linear(w * 16, 24)
        self.last = nn.Linear(24, 64)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        scale, shift = self.film(z)[:, :, None, None].chunk(2, 1)
        h = self.constant * (1 + scale) + shift
        h = h + self.conv1(F.silu(h)) + self.embed(y)[:, :, None, None]
        u = F.silu(self.grouped(F.silu(self.point(F.relu(self.depth(h))))))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(u.mean((2, 3))))))
        h = F.relu(self.join(torch.cat([h, u * gate[:, :, None, None]], 1)))
        return torch.tanh(self.last(F.relu(self.flat(h.flatten(1))))).unflatten(1, (1, 8, 8))


BODIES: dict[str, Callable[[int, int, int], nn.Module]] = {
    "plain": UpsampleGenerator,
    "transposed": TransposedGenerator,
    "hard": HardGenerator,
}


@register("test-gan")
class SmallGan(GenerativeModel):
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.conditions = {"class": ConditionSpec.label(spec.classes)}
        self.generator = BODIES[config.body](config.latent, config.width, spec.classes)
        self.critic = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(256, 1)
        )

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("critic", ("critic",)), Phase("generator", ("generator",)))

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        z = torch.randn(len(batch), self.config.latent, generator=ctx.rng, device=batch.x.device)
        fake = self.generator(z, batch["class"])
        if phase == "generator":
            return {"generator": F.softplus(-self.critic(fake)).mean()}
        return {"critic": (F.softplus(self.critic(fake.detach())) + F.softplus(-self.critic(batch.x))).mean()}

    def graphs(self) -> dict[str, Graph]:
        ports = (Port("z", (1, self.config.latent)), Port("class", (1,), "int64", high=self.spec.classes))
        return {"generator": Graph("generator", self.generator, ports)}

    def sampler(self) -> Sampler:
        return OneShot(latent=(self.config.latent,), conditions=("class",))


class Residual(nn.Module):
    def __init__(self, c_in: int, c_out: int, emb: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time = nn.Linear(emb, c_out)
        self.norm2, self.conv2 = nn.GroupNorm(4, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(emb)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, c: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = nn.GroupNorm(4, c), nn.Conv2d(c, 3 * c, 1), nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).chunk(3, 1)
        q, k, v = (t.reshape(n, self.heads, -1, h * w).transpose(2, 3) for t in (q, k, v))
        a = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(a.transpose(2, 3).reshape(n, -1, h, w))


class UNet(nn.Module):
    """Skip concatenation, attention, time and class embeddings added after the first convolution."""

    def __init__(self, w: int, classes: int) -> None:
        super().__init__()
        self.w = w
        self.time1, self.time2 = nn.Linear(w, 4 * w), nn.Linear(4 * w, 4 * w)
        self.embed = nn.Embedding(classes + 1, 4 * w)
        self.first = nn.Conv2d(1, w, 3, padding=1)
        self.down1, self.pool = Residual(w, w, 4 * w), nn.Conv2d(w, w, 3, 2, 1)
        self.down2, self.attention = Residual(w, 2 * w, 4 * w), Attention(2 * w)
        self.middle = Residual(2 * w, 2 * w, 4 * w)
        self.up2 = Residual(4 * w, 2 * w, 4 * w)
        self.grow = nn.Conv2d(2 * w, w, 3, padding=1)
        self.up1 = Residual(2 * w, w, 4 * w)
        self.norm, self.last = nn.GroupNorm(4, w), nn.Conv2d(w, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        freq = torch.exp(-math.log(1e4) * torch.arange(self.w // 2, device=x.device) / (self.w // 2))
        angle = t[:, None] * freq
        emb = self.time2(F.silu(self.time1(torch.cat([angle.sin(), angle.cos()], 1)))) + self.embed(y)
        emb = F.silu(emb)
        h1 = self.down1(self.first(x), emb)
        h2 = self.attention(self.down2(self.pool(h1), emb))
        h = self.up2(torch.cat([self.middle(h2, emb), h2], 1), emb)
        h = self.up1(torch.cat([self.grow(F.interpolate(h, scale_factor=2.0)), h1], 1), emb)
        return self.last(F.silu(self.norm(h)))


@register("test-ddpm")
class SmallDiffusion(GenerativeModel):
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.conditions = {"class": ConditionSpec.label(spec.classes, null=spec.classes)}
        self.unet = UNet(config.width, spec.classes)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("denoise", ("unet",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        n = len(batch)
        t = torch.randint(0, 1000, (n,), generator=ctx.rng, device=batch.x.device)
        bar = torch.cos(t / 1000 * math.pi / 2).square().reshape(-1, 1, 1, 1)
        eps = torch.randn(batch.x.shape, generator=ctx.rng, device=batch.x.device)
        v = self.unet(bar.sqrt() * batch.x + (1 - bar).sqrt() * eps, t.float(), batch["class"])
        return {"v": (v - bar.sqrt() * eps + (1 - bar).sqrt() * batch.x).square().mean()}

    def graphs(self) -> dict[str, Graph]:
        ports = (
            Port("x", (1, *self.spec.shape)),
            Port("t", (1,)),
            Port("class", (1,), "int64", high=self.spec.classes + 1),
        )
        return {"denoiser": Graph("denoiser", self.unet, ports)}

    def sampler(self) -> Sampler:
        return Diffusion(
            shape=self.spec.shape, steps=6, conditions=("class",), null={"class": self.spec.classes}
        )


class Affine(nn.Module):
    """One affine coupling (Dinh et al. 2017)."""

    def __init__(self, d: int, w: int) -> None:
        super().__init__()
        self.half = d // 2
        self.net = nn.Sequential(nn.Linear(d // 2, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU(), nn.Linear(w, d))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.flip(1).chunk(2, 1)
        s, t = self.net(a).chunk(2, 1)
        return torch.cat([a, b * torch.tanh(s).exp() + t], 1)

    def inverse(self, z: Tensor) -> Tensor:
        a, b = z.chunk(2, 1)
        s, t = self.net(a).chunk(2, 1)
        return torch.cat([a, (b - t) * (-torch.tanh(s)).exp()], 1).flip(1)


@register("test-flow")
class SmallFlow(GenerativeModel):
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec, self.conditions = config, spec, {}
        self.layers = nn.ModuleList(Affine(spec.size, config.width) for _ in range(3))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("nll", ("layers",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {"size": self.encode(batch.x).square().mean()}

    def encode(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def invert(self, z: Tensor) -> Tensor:
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        return z

    def graphs(self) -> dict[str, Graph]:
        d = self.spec.size
        return {
            "inverse": Graph("generator", View(self, "invert"), (Port("z", (1, d)),)),
            "forward": Graph("encoder", View(self, "encode"), (Port("x", (1, d)),)),
        }

    def sampler(self) -> Sampler:
        return OneShot(latent=(self.spec.size,), graph="inverse")


def gan(body: str = "plain", **config: int) -> SmallGan:
    torch.manual_seed(0)
    return SmallGan(Config(body=body, **config), IMAGE)


def ddpm(**config: int) -> SmallDiffusion:
    torch.manual_seed(0)
    return SmallDiffusion(Config(**config), IMAGE)


def flow(**config: int) -> SmallFlow:
    torch.manual_seed(0)
    return SmallFlow(Config(**config), DataSpec.of("vector", (6,)))


class Cell(nn.Module):
    """One step of a recurrent prior: token (n,), position (1,), hidden (n, w) → logits, hidden."""

    def __init__(self, levels: int, w: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(levels + 1, w)
        self.enter, self.hidden, self.head = nn.Linear(w, 2 * w), nn.Linear(3 * w, w), nn.Linear(w, levels)

    def forward(self, token: Tensor, position: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.enter(self.embed(token)))
        hidden = torch.tanh(self.hidden(torch.cat([x, hidden], 1)))
        return self.head(hidden), hidden


@register("test-recurrent")
class SmallRecurrent(GenerativeModel):
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec, self.conditions = config, spec, {}
        self.cell = Cell(spec.levels, config.width)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("nll", ("cell",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        fed = F.pad(batch.x[:, :-1], (1, 0), value=self.spec.levels)
        hidden, terms = torch.zeros(len(batch), self.config.width, device=fed.device), []
        for i in range(fed.shape[1]):
            logits, hidden = self.cell(fed[:, i], torch.tensor([i]), hidden)
            terms.append(F.cross_entropy(logits, batch.x[:, i]))
        return {"nll": torch.stack(terms).sum()}

    def graphs(self) -> dict[str, Graph]:
        ports = (
            Port("token", (1,), "int64", high=self.spec.levels + 1),
            Port("position", (1,), "int64", batch_axis=None, high=self.spec.shape[0]),
        )
        state = (State("hidden", "hidden_next", (1, self.config.width)),)
        return {"decode": Graph("prior", self.cell, ports, ("logits",), state)}

    def sampler(self) -> Sampler:
        return Autoregressive(length=self.spec.shape[0], first=self.spec.levels)


def recurrent(**config: int) -> SmallRecurrent:
    torch.manual_seed(0)
    return SmallRecurrent(Config(**config), DataSpec.of("text", (5,), levels=7))
