"""A causal transformer whose keys and values live in a static cache: state in the graph."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, DataSpec, GenerativeModel, Graph, Phase, Port, State, View
from niwaki.models.registry import ModelConfig, register
from niwaki_runtime.samplers import Autoregressive, Sampler


class Config(ModelConfig):
    width: int = 32
    heads: int = 4
    layers: int = 2


class Block(nn.Module):
    def __init__(self, w: int, heads: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, w // heads
        self.norm1, self.norm2 = nn.LayerNorm(w), nn.LayerNorm(w)
        self.q, self.k, self.v, self.out = (nn.Linear(w, w) for _ in range(4))
        self.up, self.down = nn.Linear(w, 4 * w), nn.Linear(4 * w, w)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.dim)).transpose(1, 2)  # (B, H, L, D)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
        scores = (q @ k.transpose(-1, -2)) * self.dim**-0.5
        scores = scores.masked_fill(~seen, -1e9)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.mix(self.split(self.q(h)), self.split(self.k(h)), self.split(self.v(h)), seen)
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    def step(self, x: Tensor, position: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One position (B, 1, W) against caches (B, H, L, D), written where the position says."""
        h = self.norm1(x)
        places = torch.arange(k.shape[2], device=x.device)
        here = (places == position)[None, None, :, None]
        k = torch.where(here, self.split(self.k(h)), k)
        v = torch.where(here, self.split(self.v(h)), v)
        x = x + self.mix(self.split(self.q(h)), k, v, (places <= position)[None, None, None, :])
        return x + self.down(F.gelu(self.up(self.norm2(x)))), k, v


@register("contract-kv-transformer")
class KVTransformer(GenerativeModel):
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec, self.conditions = config, spec, {}
        self.length, w = spec.shape[0], config.width
        self.embed, self.where = nn.Embedding(spec.levels + 1, w), nn.Embedding(self.length, w)
        self.blocks = nn.ModuleList(Block(w, config.heads) for _ in range(config.layers))
        self.norm, self.head = nn.LayerNorm(w), nn.Linear(w, spec.levels)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("nll", ("embed", "where", "blocks", "norm", "head")),)

    def logits(self, tokens: Tensor) -> Tensor:
        """Teacher forcing: (B, L) → logits (B, L, V); position i sees the tokens before i."""
        fed = F.pad(tokens[:, :-1], (1, 0), value=self.spec.levels)
        places = torch.arange(self.length, device=tokens.device)
        x = self.embed(fed) + self.where(places)
        for block in self.blocks:
            x = block(x, places[None, :] <= places[:, None])
        return self.head(self.norm(x))

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {"nll": F.cross_entropy(self.logits(batch.x).float().flatten(0, 1), batch.x.flatten())}

    def decode(self, token: Tensor, position: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        x = (self.embed(token) + self.where(position)).unsqueeze(1)
        kept: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x, k, v = block.step(x, position, caches[2 * i], caches[2 * i + 1])
            kept += [k, v]
        return (self.head(self.norm(x)).squeeze(1), *kept)

    def graphs(self) -> dict[str, Graph]:
        state = []
        for i, b in enumerate(self.blocks):
            shape = (1, b.heads, self.length, b.dim)
            state += [State(f"k{i}", f"k{i}_next", shape), State(f"v{i}", f"v{i}_next", shape)]
        ports = (
            Port("token", (1,), "int64", high=self.spec.levels),
            Port("position", (1,), "int64", batch_axis=None, high=self.length),
        )
        return {"decode": Graph("prior", View(self, "decode"), ports, ("logits",), tuple(state))}

    def sampler(self) -> Sampler:
        return Autoregressive(length=self.length, first=self.spec.levels)
