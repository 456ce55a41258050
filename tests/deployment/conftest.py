"""Small models of every shape that deployment must carry, with statistics as after training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
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
    State,
    View,
)
from niwaki_runtime.samplers import Autoregressive, Diffusion, OneShot, Sampler


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Toy(GenerativeModel):
    name = "toy"

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("all", ("net",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {}


class ConvGenerator(nn.Module):
    """Class embedding, linear, BatchNorm after the reshape, then upsampling and convolutions."""

    def __init__(self, w: int = 24, transposed: bool = False) -> None:
        super().__init__()
        self.w = w
        self.embed = nn.Embedding(10, 16)
        self.project = nn.Linear(32, 2 * w * 4 * 4)
        if transposed:
            up = [nn.ConvTranspose2d(2 * w, w, 4, 2, 1, bias=False)]
        else:
            up = [nn.Upsample(scale_factor=2), nn.Conv2d(2 * w, w, 3, 1, 1, bias=False)]
        self.body = nn.Sequential(
            nn.BatchNorm2d(2 * w),
            nn.ReLU(),
            *up,
            nn.BatchNorm2d(w),
            nn.ReLU(),
            nn.Conv2d(w, 1, 3, 1, 1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.project(torch.cat([z, self.embed(y)], 1))
        return self.body(h.view(-1, 2 * self.w, 4, 4))


class ConvModel(Toy):
    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        self.spec = DataSpec.of("image", (1, 8, 8), classes=10)
        self.conditions = {"class": ConditionSpec.label(10)}
        self.net = ConvGenerator(transposed=transposed)

    def graphs(self) -> dict[str, Graph]:
        ports = (Port("z", (1, 16)), Port("y", (1,), "int64", high=10))
        return {"generator": Graph("generator", self.net, ports, ("image",))}

    def sampler(self) -> Sampler:
        return OneShot(latent=(16,), conditions=("class",))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, clock: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, inputs), nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.norm2, self.conv2 = nn.GroupNorm(4, outputs), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.clock = nn.Linear(clock, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.clock(t)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class UNet(nn.Module):
    """Down, attention, up, with skips, a clock and a class."""

    def __init__(self, w: int = 24) -> None:
        super().__init__()
        self.w = w
        self.clock, self.embed = nn.Linear(w, 2 * w), nn.Embedding(11, 2 * w)
        self.enter, self.down = nn.Conv2d(1, w, 3, 1, 1), nn.Conv2d(w, 2 * w, 3, 2, 1)
        self.r1, self.r2 = Residual(w, w, 2 * w), Residual(2 * w, 2 * w, 2 * w)
        self.qkv, self.out = nn.Conv2d(2 * w, 6 * w, 1), nn.Conv2d(2 * w, 2 * w, 1)
        self.up, self.r3 = nn.Conv2d(2 * w, w, 3, 1, 1), Residual(2 * w, w, 2 * w)
        self.leave = nn.Conv2d(w, 1, 3, 1, 1)

    def attend(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).reshape(b, 3, 4, c // 4, h * w).transpose(-1, -2).unbind(1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, c, h, w))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        rates = torch.exp(torch.arange(self.w // 2, device=x.device) * (-9.0 / (self.w // 2)))
        angles = t[:, None] * rates
        c = F.silu(self.clock(torch.cat([angles.cos(), angles.sin()], 1)) + self.embed(y))
        h1 = self.r1(self.enter(x), c)
        h2 = self.attend(self.r2(self.down(h1), c))
        h = self.up(F.interpolate(h2, scale_factor=2.0, mode="nearest"))
        return self.leave(F.silu(self.r3(torch.cat([h, h1], 1), c)))


class DenoiserModel(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.spec = DataSpec.of("image", (1, 8, 8), classes=10)
        self.conditions = {"class": ConditionSpec.label(10, null=10)}
        self.net = UNet()

    def graphs(self) -> dict[str, Graph]:
        ports = (Port("x", (1, 1, 8, 8)), Port("t", (1,)), Port("y", (1,), "int64", high=11))
        return {"denoiser": Graph("denoiser", self.net, ports, ("v",))}

    def sampler(self) -> Sampler:
        return Diffusion(
            shape=(1, 8, 8),
            steps=6,
            conditions=("class",),
            null={"class": 10},
            guidance=2.0,
            solver="dpmpp_2m",
        )


class Coupling(nn.Module):
    def __init__(self, d: int, flip: bool) -> None:
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(
            nn.Linear(d // 2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, d)
        )

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        return (b, a) if self.flip else (a, b)

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat((b, a) if self.flip else (a, b), 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.parts(x)
        s, t = self.net(a).chunk(2, 1)
        return self.join(a, b * torch.exp(torch.tanh(s)) + t), torch.tanh(s).sum(1)

    def invert(self, z: Tensor) -> Tensor:
        a, b = self.parts(z)
        s, t = self.net(a).chunk(2, 1)
        return self.join(a, (b - t) * torch.exp(-torch.tanh(s)))


class FlowModel(Toy):
    """Two views, `inverse` and `forward`, of the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.conditions = DataSpec.of("vector", (8,)), {}
        self.net = nn.ModuleList(Coupling(8, bool(i % 2)) for i in range(2))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(x[:, 0])
        for layer in self.net:
            x, logdet = layer.encode(x)
            total = total + logdet
        return x, total

    def invert(self, z: Tensor) -> Tensor:
        for layer in reversed(self.net):
            z = layer.invert(z)
        return z

    def graphs(self) -> dict[str, Graph]:
        return {
            "inverse": Graph("generator", View(self, "invert"), (Port("z", (1, 8)),), ("x",)),
            "forward": Graph("encoder", View(self, "encode"), (Port("x", (1, 8)),), ("z", "logdet")),
        }

    def sampler(self) -> Sampler:
        return OneShot(latent=(8,), graph="inverse")


class CacheModel(Toy):
    """One attention head with a static cache of keys and values, written by torch.where on the position."""

    length, width = 6, 16

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.conditions = DataSpec.of("text", (self.length,), levels=12), {}
        self.net = nn.ModuleDict(
            {
                "embed": nn.Embedding(13, self.width),
                "qkv": nn.Linear(self.width, 3 * self.width),
                "out": nn.Linear(self.width, 12),
            }
        )

    def decode(self, token: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        q, k, v = self.net["qkv"](self.net["embed"](token)).chunk(3, 1)
        places = torch.arange(self.length, device=token.device)
        here = (places == position)[None, :, None]
        keys, values = torch.where(here, k[:, None], keys), torch.where(here, v[:, None], values)
        scores = (q[:, None] * keys).sum(-1) / self.width**0.5
        weights = scores.masked_fill(places[None] > position, -1e9).softmax(-1)
        return self.net["out"]((weights[..., None] * values).sum(1) + q), keys, values

    def graphs(self) -> dict[str, Graph]:
        ports = (
            Port("token", (1,), "int64", high=13),
            Port("position", (1,), "int64", batch_axis=None, high=6),
        )
        shape = (1, self.length, self.width)
        state = (State("keys", "keys_out", shape), State("values", "values_out", shape))
        return {"decode": Graph("prior", View(self, "decode"), ports, ("logits",), state)}

    def sampler(self) -> Sampler:
        return Autoregressive(length=self.length, first=12)


MODELS: dict[str, Callable[[], GenerativeModel]] = {
    "conv": ConvModel,
    "transposed": lambda: ConvModel(transposed=True),
    "denoiser": DenoiserModel,
    "flow": FlowModel,
    "cache": CacheModel,
}


def make(name: str) -> GenerativeModel:
    """A model with weights and statistics that leave nothing at zero or one."""
    torch.manual_seed(0)
    model = MODELS[name]()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.3)
            part.running_var.uniform_(0.5, 2.0)
    return model.eval()


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest) -> GenerativeModel:
    return make(request.param)


@pytest.fixture
def build() -> Callable[[str], GenerativeModel]:
    return make


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., tuple[GenerativeModel, dict[str, Path]]]:
    """The model and its exported graphs (all it samples with, or those named), once per session."""
    from niwaki.deployment import export_graphs

    made: dict[tuple[str, ...], tuple[GenerativeModel, dict[str, Path]]] = {}

    def get(name: str, *graphs: str) -> tuple[GenerativeModel, dict[str, Path]]:
        if (name, *graphs) not in made:
            model = make(name)
            paths = export_graphs(model, tmp_path_factory.mktemp(name), names=graphs or None)
            made[(name, *graphs)] = model, paths
        return made[(name, *graphs)]

    return get
