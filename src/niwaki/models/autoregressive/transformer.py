"""A causal transformer over tokens: decoder-only and pre-norm, with rotary positions.

Vaswani et al. 2017; the arrangement is that of Radford et al. 2019 (GPT-2), with the rotary positions of Su
et al. 2021 and the squared ReLU of So et al. 2021.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Port,
    Program,
    Real,
    State,
    ValueSpec,
    View,
)
from niwaki.models.registry import ModelConfig, register
from niwaki.nn.layers.causal import CausalBlock, Rotary
from niwaki.nn.layers.dropout import Dropout
from niwaki_runtime.samplers import Autoregressive, OneShot, Sampler

__all__ = ["Transformer", "TransformerConfig"]

_INITIAL = 0.02  # standard deviation of fresh weights (Radford et al. 2019)


class TransformerConfig(ModelConfig):
    """
    width:     of the stream that blocks read and add to
    depth:     number of blocks
    heads:     of each attention; `width` is a multiple of twice as many
    expansion: width between the two layers of a block's network, in multiples of `width`
    dropout:   of the embeddings and of what each half of a block adds
    tied:      one matrix for the embeddings and the logits (Press & Wolf 2017)
    prompt:    tokens of the longest prompt; None is all but one, 0 takes none
    stride:    tokens that a prompt is read by at once
    """

    width: int = Field(256, ge=2)
    depth: int = Field(6, ge=1)
    heads: int = Field(4, ge=1)
    expansion: int = Field(4, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    tied: bool = True
    prompt: int | None = Field(None, ge=0)
    stride: int = Field(32, ge=1)


@register("transformer")
class Transformer(GenerativeModel):
    """A decoder-only transformer over tokens, with cached decoding, prefill, prompts and exact `log_prob`.

    p(x) = Π p(xᵢ | x₀ … xᵢ₋₁, labels) over sequences of one length.

    Before the first token stands one that no sequence holds, number n; labels (classes) are added to every
    embedding. Keys and values of what was read are state of two graphs: `decode` takes one token, `prefill`
    several at once.

    config: TransformerConfig
    spec:   tokens `(T,)`
    """

    Config = TransformerConfig
    example_spec: ClassVar[DataSpec] = DataSpec.of("text", (64,))
    config: TransformerConfig

    def __init__(self, config: TransformerConfig, spec: DataSpec) -> None:
        super().__init__()
        if spec.axes != "T" or not spec.is_tokens:
            raise CallError(
                f"'{self.name}' makes sequences of tokens (T); this data set holds {spec.modality} of shape "
                f"{spec.shape}"
            )
        self.config, self.spec = config, spec
        self.length, self.tokens = spec.shape[0], spec.levels
        self.stride = min(config.stride, self.length)
        asked = config.conditioning
        self.conditions = _label_conditions(spec, asked.columns, asked.drop > 0, self.name)
        width = config.width
        self.embed = nn.Embedding(self.tokens + 1, width)
        self.labels = nn.ModuleList(
            nn.Embedding(c.size + (c.null is not None), width) for c in self.conditions.values()
        )
        self.drop = Dropout(config.dropout)
        # The last stride that is read may reach beyond the end.
        self.rotary = Rotary(self.length + self.stride, width // config.heads)
        self.blocks = nn.ModuleList(
            CausalBlock(width, config.heads, config.expansion * width, config.dropout)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.tokens + 1, bias=False)
        self._initialize()
        if config.tied:
            self.head.weight = self.embed.weight

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_INITIAL)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, weight in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):  # 2·depth of them add up in the stream
                nn.init.normal_(weight, std=_INITIAL / math.sqrt(2 * self.config.depth))

    def phases(self) -> tuple[Phase, ...]:
        labels = ("labels",) if self.conditions else ()
        head = () if self.config.tied else ("head",)
        return (Phase("nll", ("embed", *labels, "blocks", "norm", *head)),)

    def _enter(self, tokens: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        """Tokens `(n, t)` and labels `(n,)` → the stream `(n, t, width)`."""
        x: Tensor = self.embed(tokens)
        for embedding, label in zip(self.labels, labels, strict=True):
            x = x + embedding(label).unsqueeze(1)
        return x

    def _leave(self, x: Tensor) -> Tensor:
        """The stream → logits `(n, t, tokens)`; that of the first token, which is never made, is cut off."""
        logits: Tensor = self.head(self.norm(x))
        return logits[..., : self.tokens]

    def logits(self, x: Tensor, *labels: Tensor) -> Tensor:
        """Teacher forcing: tokens `(n, T)` → logits `(n, T, tokens)` of each given those before it."""
        fed = F.pad(x[:, :-1], (1, 0), value=self.tokens)
        turn = self.rotary(torch.arange(self.length, device=x.device))
        h = self.drop(self._enter(fed, labels))
        for block in self.blocks:
            h = block(h, turn)
        return self._leave(h)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Cross-entropy of the next token, in nats per token."""
        logits = self.logits(batch.x, *self._asked(batch, ctx)).float()
        return {"nll": F.cross_entropy(logits.flatten(0, 1), batch.x.flatten())}

    def _asked(self, batch: Batch, ctx: Context) -> tuple[Tensor, ...]:
        """The batch's labels; a share of the samples loses all of theirs. Raises CallError without labels."""
        missing = [name for name in self.conditions if name not in batch]
        if missing:
            raise CallError(
                f"'{self.name}' is conditional, and the batch has no labels '{missing[0]}'; "
                "set conditioning: {columns: []} for this data"
            )
        found = tuple(batch[name] for name in self.conditions)
        drop = self.config.conditioning.drop
        if not found or not drop:
            return found
        coin = torch.rand(len(batch), generator=ctx.rng, device=batch.x.device) < drop
        sizes = [c.size for c in self.conditions.values()]
        return tuple(torch.where(coin, size, label) for size, label in zip(sizes, found, strict=True))

    def log_prob(self, x: Tensor, *labels: Tensor) -> Tensor:
        """log p of token sequences `(n, T)`, in nats `(n,)`. Exact: tokens have probabilities."""
        each = torch.log_softmax(self.logits(x, *labels).float(), dim=-1)
        return each.gather(-1, x.unsqueeze(-1)).squeeze(-1).sum(1)

    def prefill(self, tokens: Tensor, position: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Tokens `(n, t)` from `position` on → their logits `(n, t, tokens)`, new keys and values.

        rest: labels, then keys and values of each block `(n, heads, T, d)`
        """
        labels, state = rest[: len(self.conditions)], rest[len(self.conditions) :]
        turn = self.rotary(position + torch.arange(tokens.shape[1], device=tokens.device))
        x, news = self._enter(tokens, labels), []
        for i, block in enumerate(self._layers()):
            x, k, v = block.read(x, turn, position, state[2 * i], state[2 * i + 1])
            news += [k, v]
        return (self._leave(x), *news)

    def decode(self, token: Tensor, position: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """One token `(n,)` at `position` → logits `(n, tokens)` of the next, new keys and values."""
        logits, *news = self.prefill(token.unsqueeze(1), position, *rest)
        return (logits.squeeze(1), *news)

    def _layers(self) -> list[CausalBlock]:
        return [block for block in self.blocks if isinstance(block, CausalBlock)]

    def graphs(self) -> dict[str, Graph]:
        labels = tuple(
            Port(name, (1,), "int64", high=c.size + (c.null is not None))
            for name, c in self.conditions.items()
        )
        state = []
        for i, block in enumerate(self._layers()):
            heads = block.attention.heads
            for letter, layer in (("key", block.attention.k), ("value", block.attention.v)):
                shape = (1, heads, self.length, layer.out_features // heads)
                state.append(State(f"{letter}_{i}", f"{letter}_{i}_new", shape))
        place = Port("position", (1,), "int64", batch_axis=None, high=self.length - self.stride + 1)
        # One more than there are tokens: the one before the first.
        token = Port("token", (1,), "int64", high=self.tokens + 1)
        tokens = Port("tokens", (1, self.stride), "int64", high=self.tokens + 1)
        x = Port("x", (1, self.length), "int64", high=self.tokens)
        held = tuple(state)
        return {
            "decode": Graph("prior", View(self, "decode"), (token, place, *labels), ("logits",), held),
            "prefill": Graph("prior", View(self, "prefill"), (tokens, place, *labels), ("logits",), held),
            "likelihood": Graph("likelihood", View(self, "log_prob"), (x, *labels), ("log_prob",)),
        }

    def sampler(self) -> Sampler:
        return self._reading("").override(**self.config.sampling)

    def _reading(self, prompt: str) -> Autoregressive:
        return Autoregressive(
            length=self.length,
            first=self.tokens,
            conditions=tuple(self.conditions),
            prompt=prompt,
            prefill="prefill",
            stride=self.stride,
        )

    def programs(self) -> dict[str, Program]:
        """`sample`; `continue` begins with a prompt, filled up with −1; `log_prob` in nats."""
        longest = self.length - 1 if self.config.prompt is None else min(self.config.prompt, self.length)
        found = super().programs()
        if longest:
            prompt = ConditionSpec(ValueSpec("text", (longest,), "T", self.spec.values), null=-1)
            sampler = self._reading("prompt").override(**self.config.sampling)
            found["continue"] = Program(sampler, {"prompt": prompt, **self.conditions}, self.spec.x)
        nats = ValueSpec("vector", (), "", Real(-math.inf, math.inf))
        read = OneShot(graph="likelihood", conditions=("x", *self.conditions))
        found["log_prob"] = Program(read, {"x": ConditionSpec(self.spec.x), **self.conditions}, nats)
        return found


def _label_conditions(
    spec: DataSpec, columns: tuple[str, ...] | None, droppable: bool, model: str
) -> dict[str, ConditionSpec]:
    """The labels that samples can be asked by: those of `columns`, or all that the data have.

    Raises CallError for a column that is no label.
    """
    labels = [name for name, value in spec.columns.items() if value.is_tokens and value.shape == ()]
    for name in columns or ():
        if not (spec[name].is_tokens and spec[name].shape == ()):
            raise CallError(f"'{model}' can be asked by labels; '{name}' is {spec[name].modality}")
    wanted = labels if columns is None else columns
    return {name: ConditionSpec(spec[name], spec[name].levels if droppable else None) for name in wanted}
