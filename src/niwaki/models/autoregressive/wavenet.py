"""WaveNet (van den Oord et al. 2016): sound step by step, each given thousands before it, at a cost that does
not depend on how many there were."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import (
    CallError,
    ConditionSpec,
    DataSpec,
    Graph,
    Port,
    Program,
    State,
    ValueSpec,
    View,
)
from niwaki.models.autoregressive.token_model import TokenModel, TokenModelConfig
from niwaki.models.registry import register
from niwaki.nn.layers.companding import codes_of
from niwaki.nn.layers.gated_dilated import GatedDilated
from niwaki.nn.unrolled import Reading
from niwaki_runtime.programs import BITS, CODEC
from niwaki_runtime.samplers import Cascade, DirectCoding, OneShot, Sampler
from niwaki_runtime.specs import Tokens

__all__ = ["WaveNet", "WaveNetConfig"]


class WaveNetConfig(TokenModelConfig):
    """
    width:    of the stream that layers read and add to
    hidden:   of a layer's gated values
    layers:   of a stack, with dilations 1, 2, 4 …
    stacks:   one after the other
    say:      width of the two layers that say the next code
    levels:   codes of μ-law; data of at most as many stored levels are said as they are
    dropout:  of the gated values
    tied, prompt: not for sound
    """

    width: int = Field(32, ge=2)
    hidden: int = Field(32, ge=1)
    layers: int = Field(8, ge=1, le=16)
    stacks: int = Field(1, ge=1)
    say: int = Field(96, ge=1)
    levels: int = Field(256, ge=2, le=65536)
    dropout: float = Field(0.0, ge=0, lt=1)
    tied: Literal[False] = False
    prompt: Literal[0] = 0


@register("wavenet")
class WaveNet(TokenModel):
    """p(x) = Π p(code of x(t) | codes before it, labels), and within a code's cell all values alike: a
    density, or of stored levels a probability.

    One tensor carries what every layer read: a step adds a row and reads one back for each layer.

    config: WaveNetConfig
    spec:   amounts between two bounds `(T,)` or `(1, T)`
    """

    Config = WaveNetConfig
    config: WaveNetConfig
    example_spec = DataSpec.of("audio", (64,), classes=8)

    def __init__(self, config: WaveNetConfig, spec: DataSpec) -> None:
        super().__init__()
        self.begin(config, spec)
        c = config
        depth = c.stacks * c.layers
        self.blocks = nn.ModuleList(
            GatedDilated(c.width, c.hidden, 2 ** (i % c.layers), c.dropout, last=i == depth - 1)
            for i in range(depth)
        )
        self.skip = nn.Linear(depth * c.hidden, c.say)
        self.mix = nn.Linear(c.say, c.say)
        self.finish(depth, (), inputs=c.say)
        self._initialize()

    def vocabulary(self, spec: DataSpec) -> tuple[int, int]:
        if spec.axes not in ("T", "CT") or spec.size != spec.shape[-1]:
            raise CallError(
                f"'{self.name}' makes one channel of sound (T); this data set holds {spec.modality} of shape "
                f"{spec.shape}"
            )
        self.codes = codes_of(spec.x, self.config.levels, f"{self.name}")
        return spec.size, self.codes.n

    @torch.no_grad()
    def _initialize(self) -> None:
        """Neighbouring codes begin alike: each number of an embedding is a smooth function of the code."""
        for block in self._blocks():
            block.initialize()
        self.skip.reset_parameters()
        self.mix.reset_parameters()
        f = torch.linspace(-1.0, 1.0, self.tokens)[:, None]
        k = torch.arange(1.0, 9.0)
        waves = torch.cat([f, torch.sin(torch.pi * k * f) / k, torch.cos(torch.pi * k * f) / k], 1)
        self.embed.weight[: self.tokens] = waves @ torch.randn(waves.shape[1], self.config.width) * 0.7
        for embedding in self.labels:
            assert isinstance(embedding, nn.Embedding)
            embedding.weight.normal_()

    @property
    def layers(self) -> tuple[str, ...]:
        return ("blocks", "skip", "mix")

    def _blocks(self) -> list[GatedDilated]:
        return [block for block in self.blocks if isinstance(block, GatedDilated)]

    def tokens_of(self, x: Tensor) -> Tensor:
        return self.codes.encode(x.flatten(1))

    def values_of(self, codes: Tensor) -> Tensor:
        """Codes `(n, T)` → samples in the spec's range."""
        return self.codes.decode(codes).reshape(codes.shape[0], *self.spec.shape)

    def think(self, h: Tensor) -> Tensor:
        said = []
        for block in self.blocks:
            h, z = block(h)
            said.append(z)
        return self.skip(torch.cat(said, -1))

    def advance(self, h: Tensor, position: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """state: what each layer read at each step `(n, T, layers, width)`; back comes the new row."""
        (read,) = state
        blocks, x = self._blocks(), h.squeeze(1)
        behind = torch.tensor([block.dilation for block in blocks], device=h.device)
        at = position - behind
        there = (at >= 0).to(read.dtype)  # before the first step there is silence
        rows = torch.arange(len(blocks), device=h.device) + len(blocks) * at.clamp(min=0)
        past = read.flatten(1, 2).index_select(1, rows) * there[:, None]
        said, seen = [], []
        for block, before in zip(blocks, past.unbind(1), strict=True):
            seen.append(x)
            x, z = block.step(block.told(before), x)
            said.append(z)
        return self.skip(torch.cat(said, -1)).unsqueeze(1), torch.stack(seen, 1).unsqueeze(1)

    def onward(self, labels: tuple[Tensor, ...], position: Tensor, state: tuple[Tensor, ...]) -> Reading:
        return _Onward(self, labels, position, state[0])

    def _leave(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(F.relu(self.mix(F.relu(x))))
        return logits[..., : self.tokens]

    def carried(self) -> tuple[State, ...]:
        blocks = self._blocks()
        return (State("read", "read_new", (1, self.length, len(blocks), blocks[0].past.in_features)),)

    def log_prob(self, x: Tensor, *labels: Tensor) -> Tensor:
        """log p of samples, in nats `(n,)`: of a code, spread evenly over its cell."""
        return super().log_prob(x, *labels) - self.codes.log_width[self.tokens_of(x)].sum(1)

    def graphs(self) -> dict[str, Graph]:
        codes = Port("codes", (1, self.length), "int64", high=self.tokens)
        x = Port("x", (1, *self.spec.shape))
        return {
            **super().graphs(),
            "values": Graph("decoder", View(self, "values_of"), (codes,), ("x",)),
            "codes": Graph("encoder", View(self, "tokens_of"), (x,), ("codes",)),
        }

    def sampler(self) -> Sampler:
        draw = OneShot(None, "values", ("codes",))
        return Cascade((self._reading(""), draw), ("codes",)).override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        """`codec` codes sound by its codes; what is decoded are their values."""
        found = super().programs()
        if self.codes.exact:
            likely = found["log_prob"]
            nats = ValueSpec("vector", (), "", likely.output.values, names=("log_probability",))
            found["log_prob"] = Program(likely.sampler, likely.inputs, nats)
        coding = DirectCoding.of(self._reading(""), read="codes", draw="values")
        codes = ValueSpec("vector", (self.length,), "T", Tokens(self.tokens))
        sample = {"x": ConditionSpec(self.spec.x)}
        return {
            **found,
            "encode": Program(OneShot(None, "codes", ("x",)), sample, codes),
            CODEC: Program(coding, {**sample, **self.conditions}, BITS),
        }


class _Onward:
    """Several steps in one call: what those before the call say is computed at once; what they need of each
    other never leaves it."""

    def __init__(self, model: WaveNet, labels: tuple[Tensor, ...], position: Tensor, read: Tensor) -> None:
        self._model, self._blocks = model, model._blocks()
        self._asked = sum(table(label) for table, label in zip(model.labels, labels, strict=True))
        self._rows: list[list[Tensor]] = []  # of each step, what each layer read
        self._told = self._look_up(position, read, model.unroll)

    def _look_up(self, position: Tensor, read: Tensor, steps: int) -> list[list[tuple[Tensor, Tensor]]]:
        """What each layer is told at each step, as far as it lies before the call."""
        counts = [min(steps, block.dilation) for block in self._blocks]
        pairs = list(zip(self._blocks, counts, strict=True))
        behind = torch.cat([torch.arange(count) - block.dilation for block, count in pairs])
        layer = torch.cat([torch.full((count,), i) for i, count in enumerate(counts)])
        at = position + behind.to(read.device)
        rows = layer.to(read.device) + len(counts) * at.clamp(min=0)
        there = (at >= 0).to(read.dtype)  # before the first step there is silence
        past = read.flatten(1, 2).index_select(1, rows) * there[:, None]
        found = []
        for block, part in zip(self._blocks, past.split(counts, 1), strict=True):
            # Side by side and cut once: taken apart one by one, each would be an operation of its own.
            a, b = (v.flatten(1).split(v.shape[-1], 1) for v in block.told(part))
            found.append(list(zip(a, b, strict=True)))
        return found

    def read(self, token: Tensor) -> Tensor:
        x, j, said, seen = self._model.embed(token) + self._asked, len(self._rows), [], []
        for i, (block, told) in enumerate(zip(self._blocks, self._told, strict=True)):
            seen.append(x)
            here = told[j] if j < len(told) else block.told(self._rows[j - block.dilation][i])
            x, z = block.step(here, x)
            said.append(z)
        self._rows.append(seen)
        return self._model._leave(self._model.skip(torch.cat(said, -1)))

    def news(self) -> tuple[Tensor, ...]:
        rows = torch.cat([x for seen in self._rows for x in seen], -1)
        return (rows.reshape(rows.shape[0], len(self._rows), len(self._blocks), -1),)
