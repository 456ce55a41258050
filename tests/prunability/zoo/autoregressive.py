"""One value after the other: masked and dilated convolutions, recurrent layers, torch's transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from prunability.zoo.case import case, floats, whole
from torch import Tensor, nn

W = 24


class MaskedConv(nn.Conv2d):
    """van den Oord et al. 2016: type A does not see its own pixel."""

    def __init__(self, kind: str, *a: int) -> None:
        super().__init__(*a, padding=a[-1] // 2)
        k = a[-1]
        mask = torch.ones(k * k)
        mask[k * k // 2 + (kind == "B") :] = 0
        self.register_buffer("mask", mask.view(1, 1, k, k).expand_as(self.weight).clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


@case("autoregressive", floats("x", 1, 8, 8))
def pixelcnn() -> nn.Module:
    return nn.Sequential(
        MaskedConv("A", 1, W, 7), nn.BatchNorm2d(W), nn.ReLU(), MaskedConv("B", W, W, 3), nn.ReLU(),
        MaskedConv("B", W, W, 3), nn.ReLU(), nn.Conv2d(W, 17, 1),
    )  # fmt: skip


class Gated(nn.Module):
    """A vertical and a horizontal stack, tanh·σ, conditioned on a class (van den Oord et al. 2016b)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.vertical, self.horizontal = nn.Conv2d(c, 2 * c, (2, 3)), nn.Conv2d(c, 2 * c, (1, 2))
        self.link, self.out, self.classes = (
            nn.Conv2d(2 * c, 2 * c, 1),
            nn.Conv2d(c, c, 1),
            nn.Embedding(5, 2 * c),
        )

    def gate(self, h: Tensor, y: Tensor) -> Tensor:
        a, b = (h + self.classes(y)[:, :, None, None]).chunk(2, 1)
        return torch.tanh(a) * torch.sigmoid(b)

    def forward(self, v: Tensor, h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.vertical(F.pad(v, (1, 1, 2, 0)))[:, :, :-1]
        mixed = self.horizontal(F.pad(h, (2, 0)))[:, :, :, :-1] + self.link(seen)
        return self.gate(seen, y), h + self.out(self.gate(mixed, y))


@case("autoregressive", floats("x", 1, 8, 8), whole("y", 5))
class GatedPixelCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, W, 1)
        self.layers = nn.ModuleList(Gated(W) for _ in range(2))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(W, 32, 1), nn.ReLU(), nn.Conv2d(32, 17, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        v = h = self.first(x)
        for layer in self.layers:
            v, h = layer(v, h, y)
        return self.head(h)


@case("autoregressive", floats("x", 1, 32))
class WaveNet(nn.Module):
    """van den Oord et al. 2016c: dilated causal stacks, gates, sums of skips."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, W, 1)
        self.filters = nn.ModuleList(nn.Conv1d(W, W, 2, dilation=2**i) for i in range(3))
        self.gates = nn.ModuleList(nn.Conv1d(W, W, 2, dilation=2**i) for i in range(3))
        self.residuals = nn.ModuleList(nn.Conv1d(W, W, 1) for _ in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(W, 32, 1) for _ in range(3))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(32, 32, 1), nn.ReLU(), nn.Conv1d(32, 17, 1))

    def forward(self, x: Tensor) -> Tensor:
        h, total = self.first(x), 0.0
        for i in range(3):
            padded = F.pad(h, (2**i, 0))
            u = torch.tanh(self.filters[i](padded)) * torch.sigmoid(self.gates[i](padded))
            h, total = h + self.residuals[i](u), total + self.skips[i](u)
        return self.head(total)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(17, W), kind(W, 32, 2, batch_first=True)
        self.body, self.head = nn.Linear(32, 48), nn.Linear(48, 17)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.body(self.rnn(self.embed(x))[0])))


@case("autoregressive", whole("x", 17, 8))
def lstm() -> nn.Module:
    """Graves 2013."""
    return Recurrent(nn.LSTM)


@case("autoregressive", whole("x", 17, 8))
def gru() -> nn.Module:
    return Recurrent(nn.GRU)


@case("autoregressive", whole("x", 17, 8))
class TorchTransformer(nn.Module):
    """Vaswani et al. 2017 from torch's own layers; the rows of the positions are a bare table."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.where = nn.Embedding(17, 32), nn.Parameter(torch.randn(1, 8, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True)
        self.body, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 17)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.full((8, 8), float("-inf"), device=x.device).triu(1)
        return self.head(self.body(self.embed(x) + self.where, mask=seen))


class Block(nn.Module):
    """Fused queries, keys and values, and a plain softmax (Radford et al. 2019)."""

    def __init__(self, w: int, heads: int) -> None:
        super().__init__()
        self.heads, self.w = heads, w
        self.norm1, self.norm2 = nn.LayerNorm(w), nn.LayerNorm(w)
        self.qkv, self.out = nn.Linear(w, 3 * w), nn.Linear(w, w)
        self.up, self.down = nn.Linear(w, 4 * w), nn.Linear(4 * w, w)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).split(self.w, 2)
        q, k, v = (t.view(b, n, self.heads, self.w // self.heads).transpose(1, 2) for t in (q, k, v))
        seen = torch.ones(n, n, device=x.device).tril() == 0
        a = ((q @ k.transpose(2, 3)) * (self.w // self.heads) ** -0.5).masked_fill(seen, -1e9).softmax(-1)
        x = x + self.out((a @ v).transpose(1, 2).contiguous().view(b, n, self.w))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


@case("autoregressive", whole("x", 17, 8), fast=True)
class MinGPT(nn.Module):
    """Numbers noted in the blocks, and a head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.where = nn.Embedding(17, 32), nn.Embedding(8, 32)
        self.blocks, self.norm = nn.Sequential(Block(32, 4), Block(32, 4)), nn.LayerNorm(32)
        self.head = nn.Linear(32, 17, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + self.where(torch.arange(x.shape[1], device=x.device))
        return self.head(self.norm(self.blocks(h)))
