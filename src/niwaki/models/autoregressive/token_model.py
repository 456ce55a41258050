"""What models of token sequences share: the token before the first, labels, cross-entropy, exact `log_prob`,
prompts, and sampling token by token with state."""

from __future__ import annotations

import math
from abc import abstractmethod
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
from niwaki.models.registry import ModelConfig
from niwaki.nn.layers.dropout import Dropout
from niwaki_runtime.programs import BITS, CODEC
from niwaki_runtime.samplers import Autoregressive, DirectCoding, OneShot, Sampler

__all__ = ["TokenModel", "TokenModelConfig"]

_INITIAL = 0.02  # standard deviation of fresh weights (Radford et al. 2019)


class TokenModelConfig(ModelConfig):
    """
    width:   of the stream that layers read and add to
    dropout: of the embeddings and of what layers add
    tied:    one matrix for the embeddings and the logits (Press & Wolf 2017)
    prompt:  tokens of the longest prompt; None is all but one, 0 takes none
    """

    width: int = Field(256, ge=2)
    dropout: float = Field(0.1, ge=0, lt=1)
    tied: bool = True
    prompt: int | None = Field(None, ge=0)


class TokenModel(GenerativeModel):
    """p(x) = Π p(xᵢ | x₀ … xᵢ₋₁, labels) over sequences of one length.

    Before the first token stands one that no sequence holds, number n; labels (classes) are added to every
    embedding. A subclass makes its layers between `begin` and `finish`, and says how they read: `think` a
    whole sequence, `advance` one token, with the state of `carried`. Where samples are no tokens themselves,
    it says what tokens they have (`vocabulary`, `tokens_of`).

    config: TokenModelConfig
    spec:   tokens `(T,)`
    """

    example_spec: ClassVar[DataSpec] = DataSpec.of("text", (64,))
    config: TokenModelConfig
    norm: nn.Module

    def begin(self, config: TokenModelConfig, spec: DataSpec) -> None:
        """Embeddings and labels. Raises CallError for data that `vocabulary` refuses."""
        self.config, self.spec = config, spec
        self.length, self.tokens = self.vocabulary(spec)
        asked = config.conditioning
        self.conditions = _label_conditions(spec, asked.columns, asked.drop > 0, self.name)
        self.embed = nn.Embedding(self.tokens + 1, config.width)
        self.labels = nn.ModuleList(
            nn.Embedding(c.size + (c.null is not None), config.width) for c in self.conditions.values()
        )
        self.drop = Dropout(config.dropout)

    def vocabulary(self, spec: DataSpec) -> tuple[int, int]:
        """Tokens of one sample, and how many different ones there are. Raises CallError for data that are no
        sequences of tokens."""
        if spec.axes != "T" or not spec.is_tokens:
            raise CallError(
                f"'{self.name}' makes sequences of tokens (T); this data set holds {spec.modality} of shape "
                f"{spec.shape}"
            )
        return spec.shape[0], spec.levels

    def tokens_of(self, x: Tensor) -> Tensor:
        """Samples `(n, *shape)` → their tokens `(n, T)` int64."""
        return x

    def finish(self, depth: int, added: tuple[str, ...], inputs: int | None = None) -> None:
        """The logits' matrix, and fresh weights; those of layers whose names end in `added` are smaller,
        since 2·depth of them add up in the stream. inputs: of the logits, where it is not `width`"""
        self.head = nn.Linear(inputs or self.config.width, self.tokens + 1, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_INITIAL)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, weight in self.named_parameters():
            if name.endswith(added):
                nn.init.normal_(weight, std=_INITIAL / math.sqrt(2 * depth))
        if self.config.tied:
            self.head.weight = self.embed.weight

    @abstractmethod
    def think(self, h: Tensor) -> Tensor:
        """The stream `(n, T, width)` of a whole sequence; a place sees itself and those before it."""

    @abstractmethod
    def advance(self, h: Tensor, position: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The stream `(n, t, width)` of the tokens from `position` `(1,)` on, after those that `state`
        remembers → the same, and the state after them. Unless `strides` says otherwise, t is 1."""

    @abstractmethod
    def carried(self) -> tuple[State, ...]:
        """State of `advance`."""

    @property
    @abstractmethod
    def layers(self) -> tuple[str, ...]:
        """Names of the parts between embeddings and logits."""

    @property
    def strides(self) -> int:
        """Tokens that a prompt is read by at once; 1 where tokens beyond its end would stay in the state."""
        return 1

    def phases(self) -> tuple[Phase, ...]:
        labels = ("labels",) if self.conditions else ()
        head = () if self.config.tied else ("head",)
        return (Phase("nll", ("embed", *labels, *self.layers, *head)),)

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
        return self._leave(self.think(self.drop(self._enter(fed, labels))))

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Cross-entropy of the next token, in nats per token."""
        tokens = self.tokens_of(batch.x)
        logits = self.logits(tokens, *self._asked(batch, ctx)).float()
        return {"nll": F.cross_entropy(logits.flatten(0, 1), tokens.flatten())}

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
        """log p of the tokens of samples, in nats `(n,)`. Exact: tokens have probabilities."""
        tokens = self.tokens_of(x)
        each = torch.log_softmax(self.logits(tokens, *labels).float(), dim=-1)
        return each.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).sum(1)

    def prefill(self, tokens: Tensor, position: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Tokens `(n, t)` from `position` on → their logits `(n, t, tokens)`, new state; rest: labels,
        state."""
        labels, state = rest[: len(self.conditions)], rest[len(self.conditions) :]
        x, *news = self.advance(self._enter(tokens, labels), position, state)
        return (self._leave(x), *news)

    def decode(self, token: Tensor, position: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """One token `(n,)` at `position` → logits `(n, tokens)` of the next, new state."""
        logits, *news = self.prefill(token.unsqueeze(1), position, *rest)
        return (logits.squeeze(1), *news)

    def graphs(self) -> dict[str, Graph]:
        labels = tuple(
            Port(name, (1,), "int64", high=c.size + (c.null is not None))
            for name, c in self.conditions.items()
        )
        held, stride = self.carried(), self.strides
        place = Port("position", (1,), "int64", batch_axis=None, high=self.length - stride + 1)
        # One more than there are tokens: the one before the first.
        token = Port("token", (1,), "int64", high=self.tokens + 1)
        x = Port("x", (1, *self.spec.shape), self.spec.x.dtype, high=self.tokens)
        found = {
            "decode": Graph("prior", View(self, "decode"), (token, place, *labels), ("logits",), held),
            "likelihood": Graph("likelihood", View(self, "log_prob"), (x, *labels), ("log_prob",)),
        }
        if stride > 1:
            tokens = Port("tokens", (1, stride), "int64", high=self.tokens + 1)
            ports = (tokens, place, *labels)
            found["prefill"] = Graph("prior", View(self, "prefill"), ports, ("logits",), held)
        return found

    def sampler(self) -> Sampler:
        return self._reading("").override(**self.config.sampling)

    def _reading(self, prompt: str) -> Autoregressive:
        return Autoregressive(
            length=self.length,
            first=self.tokens,
            conditions=tuple(self.conditions),
            prompt=prompt,
            prefill="prefill" if self.strides > 1 else "",
            stride=self.strides,
        )

    def programs(self) -> dict[str, Program]:
        """`sample`; `continue` begins with a prompt, filled up with −1; `log_prob` in nats; `codec`."""
        longest = self.length - 1 if self.config.prompt is None else min(self.config.prompt, self.length)
        found = super().programs()
        if longest:
            prompt = ConditionSpec(ValueSpec("text", (longest,), "T", self.spec.values), null=-1)
            sampler = self._reading("prompt").override(**self.config.sampling)
            found["continue"] = Program(sampler, {"prompt": prompt, **self.conditions}, self.spec.x)
        nats = ValueSpec("vector", (), "", Real(-math.inf, math.inf))
        read = OneShot(graph="likelihood", conditions=("x", *self.conditions))
        asked = {"x": ConditionSpec(self.spec.x), **self.conditions}
        found["log_prob"] = Program(read, asked, nats)
        found[CODEC] = Program(DirectCoding.of(self._reading("")), asked, BITS)
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
